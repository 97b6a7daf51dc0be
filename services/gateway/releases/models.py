"""Bodies of requests on releases, and how paths name one."""

from typing import Annotated, Final

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.collections import VersionName

__all__ = ["Named", "NewRelease", "Promotion", "Rollback"]

MOST_TEMPLATES: Final = 32
LONGEST_TEMPLATE: Final = 64 * 1024

TemplateName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}\.jinja$")]
Named = Annotated[str, Path(description="A release's name, or `<collection>@<alias>`.")]
Reason = Annotated[str, Field(max_length=1000, description="Why; it is noted with the change.")]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class NewRelease(_Request):
    collection: str
    version: VersionName | None = Field(None, description="A version of the collection; the live one if null.")
    description: str = Field("", max_length=1000, description="What is new, and why.")
    evaluations: Annotated[list[str], Field(max_length=20)] = Field(
        [], description="Jobs that have measured the version: evaluate, tune or canary."
    )
    templates: Annotated[
        dict[TemplateName, Annotated[str, Field(max_length=LONGEST_TEMPLATE)]], Field(max_length=MOST_TEMPLATES)
    ] = Field({}, description="Prompt templates of the generator by their file names.")
    imported_from: str = Field("", max_length=64, description="The release of another installation that it was.")


class Promotion(_Request):
    keep: int = Field(1, ge=0, le=20, description="Earlier versions that stay for a rollback.")
    force: bool = Field(False, description="Go on although index and records of the collection do not agree.")
    reason: Reason = ""


class Rollback(Promotion):
    collection: str
