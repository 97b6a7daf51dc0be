"""Settings of traces, metrics and logs."""

import os
import socket
from typing import Final
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

__all__ = ["TelemetrySettings"]

TRACES: Final = "/v1/traces"
"""The path of traces in OTLP over HTTP."""


class TelemetrySettings(BaseSettings):
    """What a process says of itself, and where."""

    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")
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
