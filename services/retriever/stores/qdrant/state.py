"""The state of one table: what a commit changes in one step, so that all of the commit counts from then on."""

from pydantic import BaseModel, ConfigDict

from services.retriever.stores.columns import Column, ColumnType
from services.retriever.stores.qdrant.layout import column, reserved_columns
from shared.contracts.collections import Owner
from shared.contracts.problems import Problem, ProblemType

__all__ = ["Lease", "TableState"]


class Lease(BaseModel):
    """The right to write a table, which one writer has at a time. Its points bear the number `commit`.

    `holder` is another one for every store that is open, `token` for every lease, `beat` after every sign of life.
    """

    model_config = ConfigDict(frozen=True)

    holder: str
    token: str
    commit: int
    beat: int = 0


class TableState(BaseModel):
    """`id` is another one for each table that is made, also of one name: it parts the points of tables.

    `version` is the last commit. Commits in `given_up`, each with the time since the epoch, did not end: their points
    do not count, though their numbers are smaller. Numbers from `next` on are free. A table that is `dropped` is gone
    for everybody, and its points are being removed.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    dimension: int
    tenant: str = ""
    collection: str = ""
    version: int = 0
    next: int = 1
    fields: dict[str, ColumnType] = {}
    lease: Lease | None = None
    given_up: dict[int, float] = {}
    dropped: bool = False

    @property
    def columns(self) -> dict[str, Column]:
        """What filters may name."""
        return {key: column(key, kind) for key, kind in self.fields.items()} | reserved_columns()

    def check_owner(self, owner: Owner | None) -> None:
        """Raises Problem COLLECTION_NOT_FOUND for a table that was made for another owner."""
        if owner is not None and not owner.admits(self.tenant, self.collection):
            raise Problem(ProblemType.COLLECTION_NOT_FOUND, "The index belongs to another collection.")
