"""Settings of the gateway."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from shared.settings import ServiceSettings

__all__ = ["GatewaySettings"]


class GatewaySettings(ServiceSettings):
    http_port: int = Field(8080, ge=0, le=65535, description="HTTP port; 0 takes any free one.")
    pipelines: Path | None = Field(None, description="YAML file of named pipelines; none: only the built-in default.")
    default_timeout: float = Field(30.0, ge=0.1, description="Seconds that a query may take unless it says otherwise.")
    openai_timeout: float = Field(
        120.0, ge=0.1, description="The same for requests in OpenAI's form; at most longest_deadline counts."
    )
    max_question_chars: int = Field(8000, ge=1, description="Characters in a question.")
    max_body_bytes: int = Field(256 * 2**20, ge=1, description="Bytes in the body of one upload.")
    max_file_bytes: int = Field(50 * 2**20, ge=1, description="Bytes in one uploaded file.")
    max_files: int = Field(1000, ge=1, description="Documents in one upload.")
    max_texts_bytes: int = Field(32 * 2**20, ge=1, description="Bytes in one upload of documents as JSON texts.")
    max_batch_file_bytes: int = Field(200 * 2**20, ge=1, description="Bytes in one file for the Files API.")
    batch_concurrency: int = Field(32, ge=1, le=256, description="Lines of one batch in work at once.")
    batch_yields: bool = Field(
        False, description="Lines of batches wait while queries are in flight: for when all stages share a few CPUs."
    )
    request_room: int = Field(64, ge=1, description="Lines of batches in work at once.")
    max_shadows: int = Field(32, ge=0, description="Shadow queries in flight at once; more are left out.")

    @model_validator(mode="after")
    def _timeouts_fit(self) -> Self:
        if self.default_timeout > self.longest_deadline:
            raise ValueError("default_timeout is longer than longest_deadline")
        return self
