"""Settings of the copies of experiment runs in MLflow."""

import os
from base64 import b64encode
from pathlib import Path
from string import Formatter
from typing import Final, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["TrackingSettings"]

IN_EXPERIMENT: Final = frozenset({"tenant", "collection", "kind"})
IN_MODEL: Final = frozenset({"tenant", "collection"})


class TrackingSettings(BaseSettings):
    """`revision` and `image` are noted with each run. Without `mlflow_uri` runs are copied nowhere."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", extra="ignore", hide_input_in_errors=True)

    revision: str = Field("", description="Git revision of what runs here, to note it with experiment runs.")
    image: str = Field("", description="Container image of what runs here, to note it with experiment runs.")
    mlflow_uri: str | None = Field(
        None, description="An MLflow tracking server that gets copies of experiment runs, such as http://mlflow:5000."
    )
    mlflow_token: SecretStr | None = Field(None, description="Bearer token for it.")
    mlflow_token_file: Path | None = Field(
        None, description="File that holds the token instead; it is read at each request."
    )
    mlflow_user: str = Field("", description="User of it, instead of a token.")
    mlflow_password: SecretStr | None = Field(None, description="Password of that user.")
    mlflow_password_file: Path | None = Field(
        None, description="File that holds the password instead; it is read at each request."
    )
    mlflow_experiment: str = Field(
        "sluice/{tenant}/{collection}",
        description="Name of a run's experiment. {collection} is the pipeline's name or the kind where there is none; "
        "without {tenant} tenants share experiments.",
    )
    mlflow_model: str = Field(
        "sluice.{tenant}.{collection}",
        description="Name of the registered model that has a collection's releases as its versions; none: releases are "
        "not copied.",
    )
    mlflow_tenants: str = Field(
        "*", description="Patterns of the tenants whose runs and releases are copied, separated by commas."
    )
    mlflow_artifact_bytes: int = Field(
        0,
        ge=0,
        description="Files of a run up to this size are uploaded to MLflow; 0: none, as they may quote documents.",
    )
    mlflow_run_url: str = Field("", description="Link to a run for people, with {run} for its id; none: no link.")
    mlflow_trace_url: str = Field("", description="Link to a trace for people, with {trace} for its id; none: no link.")
    mlflow_live_seconds: float = Field(30.0, gt=0, description="Seconds between two copies of a run that goes on.")
    mlflow_retry_seconds: float = Field(
        86400.0, gt=0, description="Seconds for which a copy that fails is tried again before it is given up."
    )

    @field_validator("revision")
    @classmethod
    def _is_known(cls, revision: str) -> str:
        """An image that was built without its revision has this one."""
        return "" if revision == "unknown" else revision

    @field_validator("mlflow_uri")
    @classmethod
    def _is_url(cls, uri: str | None) -> str | None:
        if not uri:
            return None
        parts = urlsplit(uri)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError("give the URL of an MLflow tracking server, such as http://mlflow:5000")
        return uri.rstrip("/")

    @field_validator("mlflow_experiment")
    @classmethod
    def _has_known_fields(cls, name: str) -> str:
        _check_fields(name, IN_EXPERIMENT)
        if not name.strip():
            raise ValueError("give an experiment's name")
        return name

    @field_validator("mlflow_model")
    @classmethod
    def _tells_collections_apart(cls, name: str) -> str:
        _check_fields(name, IN_MODEL)
        if name and not all(f"{{{field}}}" in name for field in IN_MODEL):
            raise ValueError("name the model by {tenant} and {collection}, so that each collection has one of its own")
        if set(name) & set("/:'"):
            raise ValueError("MLflow takes no '/', ':' or quotation marks in a model's name")
        return name

    @field_validator("mlflow_run_url")
    @classmethod
    def _names_the_run(cls, url: str) -> str:
        _check_fields(url, {"run"})
        return url

    @field_validator("mlflow_trace_url")
    @classmethod
    def _names_the_trace(cls, url: str) -> str:
        _check_fields(url, {"trace"})
        return url

    @field_validator("mlflow_token", "mlflow_token_file", "mlflow_password", "mlflow_password_file", mode="before")
    @classmethod
    def _none_if_empty(cls, value: object) -> object:
        """An empty variable, as in compose files, counts as not set."""
        return None if value == "" else value

    @model_validator(mode="after")
    def _one_credential(self) -> Self:
        for name in ("mlflow_token", "mlflow_password"):
            given, path = getattr(self, name), getattr(self, f"{name}_file")
            if given is not None and path is not None:
                raise ValueError(f"give SLUICE_{name.upper()} or SLUICE_{name.upper()}_FILE, not both")
            if path is not None and not os.access(path, os.R_OK):
                raise ValueError(f"SLUICE_{name.upper()}_FILE: cannot read the file {path}")
        has_token = self.mlflow_token is not None or self.mlflow_token_file is not None
        has_password = self.mlflow_password is not None or self.mlflow_password_file is not None
        if has_token and (self.mlflow_user or has_password):
            raise ValueError("give SLUICE_MLFLOW_TOKEN, or SLUICE_MLFLOW_USER and SLUICE_MLFLOW_PASSWORD, not both")
        if self.mlflow_password_file is not None and not self.mlflow_user:
            raise ValueError("SLUICE_MLFLOW_PASSWORD_FILE needs SLUICE_MLFLOW_USER")
        return self

    def mlflow_authorization(self) -> str | None:
        """The header `Authorization` of a request; None without a credential. Files are read now: a credential that was
        changed holds from the next request on. Raises OSError, and UnicodeDecodeError for a file that is no text."""
        if (token := _secret(self.mlflow_token, self.mlflow_token_file)) is not None:
            return f"Bearer {token}"
        if not self.mlflow_user:
            return None
        password = _secret(self.mlflow_password, self.mlflow_password_file) or ""
        return f"Basic {b64encode(f'{self.mlflow_user}:{password}'.encode()).decode()}"


def _secret(given: SecretStr | None, path: Path | None) -> str | None:
    return path.read_text("utf-8").strip() if path is not None else given.get_secret_value() if given else None


def _check_fields(text: str, known: frozenset[str] | set[str]) -> None:
    """Raises ValueError for what cannot be filled in."""
    for _, field, spec, conversion in Formatter().parse(text):
        if field is not None and (field not in known or spec or conversion):
            there = ", ".join(f"{{{one}}}" for one in sorted(known))
            raise ValueError(f"{{{field}}} is not known here; there is {there}")
