"""Settings that every service shares. Each field is read from `SLUICE_<FIELD>` in the environment.

A service adds its own fields in a subclass; `python -m services.<name> --settings` prints them all.
"""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.fairness import Weights, parse_weights
from shared.nats.settings import BrokerSettings, QueueSettings
from shared.telemetry.redaction import redacted
from shared.telemetry.settings import TelemetrySettings

__all__ = ["ServiceSettings", "describe"]


class ServiceSettings(BrokerSettings, QueueSettings, TelemetrySettings):
    """What a process needs to be one of the services."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", extra="ignore", hide_input_in_errors=True)

    http_host: str = Field("127.0.0.1", description="Address that the HTTP port listens on.")
    http_port: int = Field(0, ge=0, le=65535, description="HTTP port; 0 takes any free one.")
    http_fd: int | None = Field(None, description="File descriptor of a listening socket to use instead.")
    http_head_seconds: float = Field(15.0, gt=0, description="Seconds in which the head of a request must arrive.")
    data_dir: Path = Field(Path(".sluice"), description="Folder for what is kept on this machine.")
    tenant_weights: str = Field(
        "", description="Tenants that get more or less than others where they wait for each other, as acme=3,other=0.5."
    )
    grace_seconds: float = Field(20.0, gt=0, description="Seconds for work in flight to finish after SIGTERM.")
    linger_seconds: float = Field(
        0.0, ge=0, description="Seconds after SIGTERM in which work is still taken while /readyz already says no."
    )

    @property
    def weights(self) -> Weights:
        """The weights of `tenant_weights`."""
        return parse_weights(self.tenant_weights)

    @field_validator("tenant_weights")
    @classmethod
    def _are_weights(cls, text: str) -> str:
        parse_weights(text)
        return text


def describe(settings: BaseSettings) -> str:
    """A table of every setting with its value in force and its meaning; secrets stay masked, also within URLs."""
    rows = []
    for name, field in type(settings).model_fields.items():
        value = redacted(str(getattr(settings, name)), named=True)
        rows.append(f"SLUICE_{name.upper():<24} {value:<28} {field.description or ''}")
    return "\n".join(rows)
