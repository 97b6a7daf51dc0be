"""What the stage `index` makes of a store that cannot write."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.retriever.stages.index import Index
from services.retriever.stores.base import Store
from shared.contracts.envelope import Query, Stop
from shared.contracts.indexing import IndexChange
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.stage import Context

pytestmark = pytest.mark.anyio


async def change(error: Exception) -> None:
    async def replace(*_: Any, **__: Any) -> None:
        raise error

    index = Index(cast("Store", SimpleNamespace(replace=replace)), cast("Any", None), lambda _table, _passages: None)
    stop = Stop(stage="index", params=IndexChange(table="t").as_params())
    query = Query(id="q", asked_at=0, deadline=0, reply="-", slip=(stop,))
    await index(query, cast("Context", SimpleNamespace(params=stop.params)))


async def test_a_full_disk_is_a_problem_that_passes() -> None:
    with pytest.raises(Problem) as caught:
        await change(RuntimeError("lance error: LanceError(IO): Generic error: No space left on device (os error 28)"))
    assert caught.value.kind is ProblemType.STORAGE_FULL


async def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(OSError, match="Input/output"):
        await change(OSError(5, "Input/output error"))
