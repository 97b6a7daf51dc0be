"""Settings of the connection to the broker and of what is made on it."""

import os
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["BrokerSettings", "QueueSettings"]


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
    job_tenant_limit: int = Field(
        50_000, ge=1, description="Jobs of one tenant that may wait, and never more than half of what others leave."
    )
    history_seconds: float = Field(
        30 * 86400.0, gt=0, description="Seconds for which job events and dead letters stay."
    )
    history_bytes: int = Field(
        2**30, ge=2**20, description="Bytes that job events, and dead letters, may take; the broker sets them aside."
    )
    payload_days: int = Field(
        7, ge=1, description="Days for which payloads of models stay, where SLUICE_PAYLOADS says that they are logged."
    )
    payload_bytes: int = Field(
        256 * 2**20,
        ge=2**20,
        description="Bytes that they may take, and never more than history_bytes; the broker sets them aside, and the "
        "oldest go first.",
    )
    conversation_seconds: float = Field(
        90 * 86400.0, gt=0, description="Seconds for which a conversation stays that nobody goes on with."
    )
    usage_days: int = Field(400, ge=1, description="Days for which the records of tokens and costs stay.")
    answer_days: float = Field(
        30, gt=0, description="Days for which answers stay, where SLUICE_KEEP_ANSWERS says that they are kept."
    )
    feedback_days: float = Field(
        400, gt=0, description="Days for which feedback stays, with the answer that it is about."
    )
    upload_seconds: float = Field(7 * 86400.0, gt=0, description="Seconds after which an uploaded file is removed.")
