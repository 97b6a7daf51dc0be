"""Feedback as the HTTP API takes it."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["MAX_BODY", "MOST_SOURCES", "JudgedSource", "NewFeedback"]

MAX_BODY: Final = 256 * 1024

MOST_SOURCES: Final = 200
"""Sources that an answer may have."""

Index = Annotated[int, Field(ge=1, le=MOST_SOURCES)]
Tag = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]


class JudgedSource(BaseModel):
    """Whether the source with this number belongs to the question; None takes back what was said of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    index: Index
    relevant: bool | None


class NewFeedback(BaseModel):
    """What a reader says of an answer. What is left out stays as the same reader has said it before."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    answer: Annotated[str, Field(max_length=100, description="The answer's `id`, also as OpenAI's API writes it.")]
    rating: Literal["", "up", "down"] | None = Field(None, description='"" takes a rating back.')
    correction: Annotated[str, Field(max_length=20_000)] | None = Field(
        None, description="The answer as it should have been."
    )
    comment: Annotated[str, Field(max_length=4_000)] | None = None
    tags: Annotated[list[Tag], Field(max_length=20)] | None = None
    sources: Annotated[list[JudgedSource], Field(max_length=MOST_SOURCES)] = Field(
        [], description="Those that are named replace what was said of them before."
    )
    opened: Annotated[list[Index], Field(max_length=MOST_SOURCES)] = Field(
        [], description="Sources whose citations were opened, besides those named before."
    )
    copied: bool | None = Field(None, description="Whether the answer was copied.")
