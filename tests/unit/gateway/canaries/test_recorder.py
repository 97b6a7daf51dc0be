"""What counts for a canary at a gateway."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.gateway.canaries.recorder import MOST_CANARIES, CanaryRecorder
from services.gateway.queries.assembler import PartLostError
from services.gateway.queries.session import QuerySession
from shared.contracts.canaries import CanaryCounts
from shared.contracts.problems import Problem, ProblemType
from shared.stores.canaries import CanaryStore
from sluice.api.feedback import Feedback, KeptAnswer

pytestmark = pytest.mark.anyio


class Store:
    """Takes what is written, or fails once."""

    def __init__(self) -> None:
        self.written: dict[tuple[str, str], CanaryCounts] = {}
        self.writes = 0
        self.failures = 0

    async def put(self, tenant: str, job: str, _writer: str, counts: CanaryCounts) -> None:
        if self.failures:
            self.failures -= 1
            raise TimeoutError
        self.writes += 1
        self.written[tenant, job] = counts


def session(*, canary: str = "job-1", version: str = "v2", answerable: bool | None = True, ended: bool = True) -> Any:
    query = SimpleNamespace(tenant="acme", canary=canary, collection_version=version)
    done = SimpleNamespace(answerable=answerable) if ended else None
    return cast("QuerySession", SimpleNamespace(query=query, ended=done, elapsed_ms=120.0, problem=None))


async def written(recorder: CanaryRecorder, store: Store) -> CanaryCounts:
    await recorder.write(cast("CanaryStore", store))
    return store.written.get(("acme", "job-1"), CanaryCounts())


async def test_answers_and_failures_of_ours_count_for_the_version_that_was_asked() -> None:
    recorder, store = CanaryRecorder(), Store()
    recorder.ended(session(), None)
    recorder.ended(session(answerable=False), None)
    recorder.ended(session(version="v1"), None)
    for kind in (ProblemType.STAGE_FAILED, ProblemType.COLLECTION_EMPTY, ProblemType.DEADLINE_EXCEEDED):
        recorder.ended(session(ended=False), Problem(kind, ""))
    counts = await written(recorder, store)
    assert (counts.of("v2").answered, counts.of("v2").declined, counts.of("v2").failed) == (2, 1, 3)
    assert counts.of("v2").quantile(0.5) == 0.15
    assert counts.of("v1").answered == 1


@pytest.mark.parametrize(
    "kind",
    [ProblemType.INVALID_FILTER, ProblemType.QUEUE_FULL, ProblemType.BROKER_UNAVAILABLE, ProblemType.CONTEXT_EXCEEDED],
)
async def test_what_is_not_the_versions_fault_does_not_count(kind: ProblemType) -> None:
    recorder, store = CanaryRecorder(), Store()
    recorder.ended(session(ended=False), Problem(kind, ""))
    recorder.ended(session(ended=False), None)
    recorder.ended(session(canary=""), None)
    assert await written(recorder, store) == CanaryCounts()


async def test_a_question_that_the_gateway_gave_up_or_whose_events_were_lost_does_not_count() -> None:
    recorder, store = CanaryRecorder(), Store()
    given_up = session(ended=False)
    given_up.problem = Problem(ProblemType.ANSWER_INTERRUPTED, "The gateway stops.")
    recorder.ended(given_up, given_up.problem)
    recorder.ended(session(ended=False), PartLostError())
    assert await written(recorder, store) == CanaryCounts()


async def test_a_rating_counts_once_and_can_be_changed_and_taken_back() -> None:
    recorder, store = CanaryRecorder(), Store()
    kept = KeptAnswer(id="a1", answer="", canary="job-1", collection_version="v2")
    up, down, none = (Feedback(answer="a1", rating=rating, kept=kept) for rating in ("up", "down", ""))
    for before, after in ((None, up), (up, up)):
        recorder.rated("acme", before, after)
    assert ((await written(recorder, store)).of("v2").up, store.writes) == (1, 1)
    recorder.rated("acme", up, down)
    counts = (await written(recorder, store)).of("v2")
    assert (counts.up, counts.down) == (0, 1)
    recorder.rated("acme", down, none)
    counts = (await written(recorder, store)).of("v2")
    assert (counts.up, counts.down) == (0, 0)
    recorder.rated("acme", None, Feedback(answer="a1", rating="up", kept=kept.model_copy(update={"canary": ""})))
    assert (await written(recorder, store)).of("v2") == counts


async def test_what_the_broker_does_not_take_is_written_the_next_time() -> None:
    recorder, store = CanaryRecorder(), Store()
    recorder.ended(session(), None)
    store.failures = 1
    assert await written(recorder, store) == CanaryCounts()
    assert (await written(recorder, store)).of("v2").answered == 1
    assert store.writes == 1
    await recorder.write(cast("CanaryStore", store))
    assert store.writes == 1, "what has not changed is not written again"


async def test_a_gateway_remembers_the_canaries_that_were_counted_last() -> None:
    recorder, store = CanaryRecorder(), Store()
    for number in range(MOST_CANARIES + 5):
        recorder.ended(session(canary=f"job-{number}"), None)
    await recorder.write(cast("CanaryStore", store))
    assert len(store.written) == MOST_CANARIES
    assert ("acme", "job-0") not in store.written


async def test_copies_in_the_shadow_count_without_their_time_and_late_ones_not_at_all() -> None:
    recorder, store = CanaryRecorder(), Store()
    asked = session()
    for answerable in (True, False):
        recorder.shadow_ended(asked.query, cast("Any", SimpleNamespace(answerable=answerable)), None)
    for kind in (ProblemType.STAGE_FAILED, ProblemType.DEADLINE_EXCEEDED, ProblemType.STAGE_UNAVAILABLE):
        recorder.shadow_ended(asked.query, None, Problem(kind, ""))
    counts = (await written(recorder, store)).of("v2")
    assert (counts.answered, counts.declined, counts.failed, counts.timed) == (2, 1, 1, 0)
