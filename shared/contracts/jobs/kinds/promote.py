"""The kind `promote`: a release becomes what answers its collection, or the one before does again."""

from typing import Literal

from pydantic import Field

from shared.contracts.jobs.spec import JobSpec
from shared.contracts.keys import Action
from shared.contracts.releases import ReleaseName

__all__ = ["PromoteSpec"]


class PromoteSpec(JobSpec):
    """Make a release of a collection live: its version, models, options and pipeline. Without a `release`, that which
    was live before: a rollback. `keep` and `force` are as for `reindex`; `reason` is noted with the change.

    Where no release was live before, a rollback goes to the version that was.
    """

    required_action = Action.WRITE
    step_outputs = {
        "release": "text",
        "version": "text",
        "previous": "text",
        "previous_version": "text",
        "live": "boolean",
        "documents": "number",
        "chunks": "number",
    }

    kind: Literal["promote"] = "promote"
    collection: str
    release: ReleaseName | None = None
    reason: str = Field("", max_length=1000)
    keep: int = Field(1, ge=0, le=20)
    force: bool = False
