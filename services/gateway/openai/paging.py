"""Lists in OpenAI's form: a page, and the id after which the next one begins."""

from collections.abc import Callable, Sequence
from typing import Literal, Self, TypeVar

from pydantic import BaseModel

from shared.contracts.problems import Problem, ProblemType

__all__ = ["Page", "paginate"]

Item = TypeVar("Item")


class Page(BaseModel):
    """What is the same for all lists; `last_id` as `after` gives the next page."""

    object: Literal["list"] = "list"
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, data: Sequence[BaseModel], ids: Sequence[str], more: bool) -> Self:
        first, last = (ids[0], ids[-1]) if ids else (None, None)
        return cls.model_validate({"data": data, "first_id": first, "last_id": last, "has_more": more})


def paginate(found: Sequence[Item], after: str, limit: int, key: Callable[[Item], str]) -> tuple[list[Item], bool]:
    """Up to `limit` items after the one with the id `after`, or from the first, and whether there are more.

    Raises Problem NOT_FOUND for an id that is not among them.
    """
    start = 0
    if after:
        start = next((number for number, item in enumerate(found, 1) if key(item) == after), 0)
        if not start:
            raise Problem(ProblemType.NOT_FOUND, f"The list has no item '{after[:80]}'.", param="after")
    return list(found[start : start + limit]), start + limit < len(found)
