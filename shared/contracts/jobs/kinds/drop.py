"""The kind `drop`: the index of a deleted collection or version."""

from typing import Literal

from shared.contracts.jobs.spec import JobSpec
from shared.contracts.keys import Action

__all__ = ["DropSpec"]


class DropSpec(JobSpec):
    """Remove a deleted collection: the live version's `table` and the `others`, with their document records and the
    originals of the collection's `id`. With a `version` only this one, whose `table` nobody can go back to."""

    required_action = Action.WRITE
    is_step = False

    kind: Literal["drop"] = "drop"
    collection: str
    table: str
    others: tuple[str, ...] = ()
    id: str = ""
    version: str | None = None
