"""The kind `permit`: who may see documents of a collection."""

from typing import Annotated, Literal

from pydantic import Field

from shared.contracts.jobs.spec import JobSpec
from shared.contracts.keys import Action
from shared.contracts.principals import Allowed

__all__ = ["PermitSpec"]


class PermitSpec(JobSpec):
    """Give these documents (by id) a list of the principals that may see them; `public` alone is for everybody."""

    required_action = Action.WRITE
    step_outputs = {"documents": "number"}

    kind: Literal["permit"] = "permit"
    collection: str
    documents: Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)]
    allowed: Allowed
