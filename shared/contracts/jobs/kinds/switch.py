"""The kind `switch`: another version of a collection becomes the live one."""

from typing import Literal

from pydantic import Field

from shared.contracts.collections import VersionName
from shared.contracts.jobs.spec import JobSpec
from shared.contracts.keys import Action

__all__ = ["SwitchSpec"]


class SwitchSpec(JobSpec):
    """Make another version of a collection the live one, once it has the same documents; without a `version` the one
    that was live before: a rollback. `keep` and `force` are as for `reindex`."""

    required_action = Action.WRITE
    step_outputs = {"version": "text", "documents": "number", "chunks": "number", "live": "boolean", "previous": "text"}

    kind: Literal["switch"] = "switch"
    collection: str
    version: VersionName | None = None
    keep: int = Field(1, ge=0, le=20)
    force: bool = False
