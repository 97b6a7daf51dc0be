"""The kind `delete`: documents out of a collection."""

from typing import Literal

from shared.contracts.jobs.spec import JobSpec
from shared.contracts.keys import Action

__all__ = ["DeleteSpec"]


class DeleteSpec(JobSpec):
    """Remove these documents (by id) from a collection."""

    required_action = Action.WRITE

    kind: Literal["delete"] = "delete"
    collection: str
    documents: tuple[str, ...]
