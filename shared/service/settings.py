"""Settings that every service shares. Each field is read from `SLUICE_<FIELD>` in the environment.

A service adds its own fields in a subclass; `python -m services.<name> --settings` prints them all.
"""

import os
import socket
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["BrokerSettings", "QueueSettings", "ServiceSettings", "describe"]

TRACES: Final = "/v1/traces"
"""The path of traces in OTLP over HTTP."""


class BrokerSettings(BaseSettings):
    """How to reach NATS."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", extra="ignore", hide_input_in_errors=True)

    nats_url: str = Field("nats://127.0.0.1:4222", description="NATS server URLs, separated by commas.")
    nats_user: str | None = Field(None, description="User name, where the broker asks for one.")
    nats_password: SecretStr | None = Field(None, description="Password of that user.")
    nats_password_file: Path | None = Field(
        None, description="File that holds the password instead; it is read at each connection."
    )
    nats_role: str | None = Field(
        None, description="Which of Sluice's credentials this is, where the user has another name: see docs/broker.md."
    )
    nats_ca: Path | None = Field(None, description="PEM file of the authorities that may vouch for the broker (TLS).")
    nats_cert: Path | None = Field(None, description="PEM file of this client's certificate, where the broker asks.")
    nats_key: Path | None = Field(None, description="PEM file of that certificate's key.")
    nats_verify_hostname: bool = Field(True, description="Whether the broker's certificate must name its address.")
    nats_tls_first: bool = Field(
        True,
        description="With TLS, begin with it (the broker's `handshake_first`), so that nobody can talk us out of it.",
    )

    @model_validator(mode="after")
    def _credentials_go_together(self) -> Self:
        if self.nats_password is not None and self.nats_password_file is not None:
            raise ValueError("give SLUICE_NATS_PASSWORD or SLUICE_NATS_PASSWORD_FILE, not both")
        if self.nats_password_file is not None and not self.nats_user:
            raise ValueError("SLUICE_NATS_PASSWORD_FILE needs SLUICE_NATS_USER")
        if (self.nats_cert is None) != (self.nats_key is None):
            raise ValueError("SLUICE_NATS_CERT and SLUICE_NATS_KEY go together")
        for name in ("nats_password_file", "nats_ca", "nats_cert", "nats_key"):
            path = getattr(self, name)
            if path is not None and not os.access(path, os.R_OK):
                raise ValueError(f"SLUICE_{name.upper()}: cannot read the file {path}")
        return self


class QueueSettings(BaseSettings):
    """The bounds of the queues. Every service must be given the same values: each one creates what is missing."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", extra="ignore", hide_input_in_errors=True)

    replicas: int = Field(1, ge=1, le=5, description="Copies of each durable stream and bucket in a NATS cluster.")
    queue_limit: int = Field(1000, ge=1, description="Queries that may wait per stage, lane and tenant.")
    queue_bytes: int = Field(512 * 2**20, ge=2**20, description="Bytes that all waiting queries together may take.")
    longest_deadline: float = Field(300.0, gt=0, description="Seconds after which any query is gone from the broker.")
    ack_wait: float = Field(5.0, ge=0.5, description="Seconds without a sign of life after which work is redelivered.")
    max_deliver: int = Field(4, ge=1, description="Deliveries of one message before it becomes a dead letter.")
    job_limit: int = Field(100_000, ge=1, description="Jobs that may wait.")
    history_seconds: float = Field(
        30 * 86400.0, gt=0, description="Seconds for which job events and dead letters stay."
    )
    upload_seconds: float = Field(7 * 86400.0, gt=0, description="Seconds after which an uploaded file is removed.")


class ServiceSettings(BrokerSettings, QueueSettings):
    """What a process needs to be one of the services."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", extra="ignore", hide_input_in_errors=True)

    http_host: str = Field("127.0.0.1", description="Address that the HTTP port listens on.")
    http_port: int = Field(0, ge=0, le=65535, description="HTTP port; 0 takes any free one.")
    http_fd: int | None = Field(None, description="File descriptor of a listening socket to use instead.")
    data_dir: Path = Field(Path(".sluice"), description="Folder for what is kept on this machine.")
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")
    grace_seconds: float = Field(20.0, gt=0, description="Seconds for work in flight to finish after SIGTERM.")
    linger_seconds: float = Field(
        0.0, ge=0, description="Seconds after SIGTERM in which work is still taken while /readyz already says no."
    )
    instance: str = Field(
        default_factory=lambda: f"{socket.gethostname().split('.')[0]}-{os.getpid()}",
        pattern=r"^[A-Za-z0-9_-]+$",
        description="Name of this process among its replicas.",
    )
    otlp_endpoint: str | None = Field(
        None, description="Where traces are sent to by OTLP over HTTP, such as http://collector:4318; none: nowhere."
    )
    otlp_headers: SecretStr | None = Field(
        None, description="Headers for that endpoint, such as a token: name=value, separated by commas."
    )
    trace_ratio: float = Field(1.0, ge=0, le=1, description="Share of traces that is sent to the endpoint.")
    trace_errors: bool = Field(
        True, description="With an endpoint, record all traces, so that failed ones are sent whatever the ratio is."
    )
    trace_rate: float = Field(
        20.0, ge=0, description="Without an endpoint, traces begun in a second that are recorded for `sluice trace`."
    )
    trace_spans: int = Field(3000, ge=0, description="Recorded spans that a process remembers.")
    trace_seconds: float = Field(900.0, gt=0, description="Seconds for which it does.")
    metric_tenants: int = Field(
        100, ge=0, description="Tenants that a process's metrics tell apart; further ones are together as `other`."
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_url(cls, endpoint: str | None) -> str | None:
        if not endpoint:
            return None
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError("give the URL of an OTLP/HTTP receiver, such as http://collector:4318 (gRPC has 4317)")
        return endpoint if parts.path.strip("/") else endpoint.rstrip("/") + TRACES

    @field_validator("otlp_headers")
    @classmethod
    def _are_pairs(cls, headers: SecretStr | None) -> SecretStr | None:
        pairs = headers.get_secret_value().split(",") if headers else []
        if not all("=" in pair.strip()[1:] for pair in pairs if pair.strip()):
            raise ValueError("give headers as name=value, separated by commas")
        return headers


def describe(settings: BaseSettings) -> str:
    """A table of every setting with its value in force and its meaning; secrets stay masked."""
    rows = []
    for name, field in type(settings).model_fields.items():
        rows.append(f"SLUICE_{name.upper():<24} {getattr(settings, name)!s:<28} {field.description or ''}")
    return "\n".join(rows)
