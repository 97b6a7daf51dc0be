"""`ETag` and `If-Match` (RFC 9110, section 13.1.1): a write that replaces only what its writer has read."""

from typing import Annotated

from fastapi import Header

__all__ = ["IfMatch", "entity_tag", "matches"]

IfMatch = Annotated[
    str | None, Header(description='The `ETag` of what is to be changed; `"0"` where there is nothing yet.')
]


def entity_tag(revision: int) -> str:
    """The `ETag` of a record; 0 is the revision where there is none."""
    return f'"{revision}"'


def matches(if_match: str, revision: int) -> bool:
    """Whether a write with this header may replace this revision."""
    tags = {tag.strip() for tag in if_match.split(",")}
    return entity_tag(revision) in tags or (revision > 0 and "*" in tags)
