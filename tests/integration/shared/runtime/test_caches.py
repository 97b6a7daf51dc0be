"""Caches in pipelines, with stage workers on a real broker."""

from collections.abc import AsyncIterator

import pytest
import yaml

from shared.contracts.envelope import Passage, Query
from shared.contracts.events import Result
from shared.contracts.graphs import resolved
from shared.contracts.graphs.written import read_pipelines
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import InferenceOutcome, InferResponse
from shared.runtime.stage import Context
from tests.harness.stage_harness import StageHarness, until

pytestmark = pytest.mark.anyio

PLAIN = "- {cache: [find], seconds: 60}\n- after"


class Finder:
    """A stage that finds a passage, named by how often it has been asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails = False

    async def __call__(self, query: Query, context: Context) -> Query:
        self.asked += 1
        if self.fails:
            raise Problem(ProblemType.ENGINE_FAILED, "Out of order.")
        found = Passage(id=f"p{self.asked}", document_id="d", document="d", position=0, text="t", score=0.5)
        notes = {**query.notes, "found": self.asked}
        return query.with_passages([found]).with_embedding(b"abcd").model_copy(update={"notes": notes})


async def pass_on(query: Query, context: Context) -> Query:
    return query


@pytest.fixture
async def find() -> Finder:
    return Finder()


@pytest.fixture
async def stages(harness: StageHarness, find: Finder) -> AsyncIterator[StageHarness]:
    async with harness.working(find, "find"), harness.working(pass_on, "after"):
        yield harness


async def ask(harness: StageHarness, text: str, **members: object) -> Query:
    steps = read_pipelines({"pipelines": {"p": yaml.safe_load(text)}})["p"]
    query = resolved(harness.query("x", **members).model_copy(update={"slip": steps}))
    event = (await harness.ask(query))[-1]
    assert isinstance(event, Result), event
    return event.query


async def kept(harness: StageHarness, records: int = 1) -> None:
    async def there() -> bool:
        return (await harness.jetstream.stream_info("CACHE")).state.messages == records

    await until(there, "what was found is kept")


def visited(query: Query) -> list[str]:
    return [hop.stage for hop in query.trail]


async def test_an_envelope_like_an_earlier_one_gets_what_the_steps_found_then(
    stages: StageHarness, find: Finder
) -> None:
    first = await ask(stages, PLAIN, question="Who?", metadata={"a": 1})
    await kept(stages)
    second = await ask(stages, PLAIN, question="Who?", metadata={"a": 1})
    assert (visited(first), visited(second)) == (["find", "after"], ["cache", "after"])
    assert find.asked == 1
    assert (second.passages, second.embedding, second.notes) == (first.passages, first.embedding, first.notes)


@pytest.mark.parametrize(
    "other",
    [
        {"question": "What?"},
        {"tenant": "other"},
        {"collection": "other"},
        {"collection_version": "v2"},
        {"principals": ("someone",)},
        {"metadata": {"a": 2}},
        {"notes": {"seen": True}},
    ],
)
async def test_what_differs_in_anything_that_the_steps_can_see_is_done(
    other: dict[str, object], stages: StageHarness, find: Finder
) -> None:
    await ask(stages, PLAIN, question="Who?")
    await kept(stages)
    await ask(stages, PLAIN, **{"question": "Who?", **other})
    assert find.asked == 2


async def test_shadows_have_what_was_found_for_another_shadow_and_not_for_a_live_query(
    stages: StageHarness, find: Finder
) -> None:
    await ask(stages, PLAIN, question="Who?")
    await kept(stages)
    for shadow in ("one", "two"):
        await ask(stages, PLAIN, question="Who?", notes={"shadow_of": shadow})
        await kept(stages, 2)
    assert find.asked == 2


async def test_with_a_key_too_live_queries_and_shadows_do_not_have_what_was_found_for_each_other(
    stages: StageHarness, find: Finder
) -> None:
    text = "- {cache: [find], seconds: 60, key: folded}\n- after"
    for notes in ({"shadow_of": "one"}, {}, {"shadow_of": "two"}):
        query = await ask(stages, text, question="Who?", notes=notes)
        await kept(stages, min(find.asked, 2))
        assert query.passages[0].id == ("p2" if not notes else "p1")
    assert find.asked == 2


async def test_a_key_says_what_counts_but_never_across_tenants_and_readers(stages: StageHarness, find: Finder) -> None:
    text = "- {cache: [find], seconds: 60, key: folded}\n- after"
    await ask(stages, text, question="Who  IS it?")
    await kept(stages)
    assert visited(await ask(stages, text, question="who is it?", metadata={"a": 2})) == ["cache", "after"]
    assert find.asked == 1
    await ask(stages, text, question="who is it?", tenant="other")
    await ask(stages, text, question="who is it?", principals=("someone",))
    assert find.asked == 3


async def test_what_was_known_before_the_steps_is_never_taken_from_another_query(stages: StageHarness) -> None:
    text = """
- ensemble: [{name: side, then: [judge]}]
- {cache: [find, {ensemble: [{name: within, then: [after]}]}], seconds: 60, key: folded}
- after
"""

    async def judge(query: Query, context: Context) -> Query:
        inference = InferenceOutcome(response=InferResponse(model=str(query.metadata["reader"])))
        notes = {**query.notes, "reader": query.metadata["reader"]}
        return query.with_inference(inference).model_copy(update={"notes": notes})

    async with stages.working(judge, "judge"):
        await ask(stages, text, question="Who?", metadata={"reader": "one"})
        await kept(stages)
        second = await ask(stages, text, question="Who?", metadata={"reader": "two"})
    assert visited(second) == ["judge", "cache", "after"]
    assert second.notes == {"reader": "two", "found": 1}
    assert second.results is not None
    assert second.results.inference is not None
    assert second.results.inference.response == InferResponse(model="two")
    assert set(second.results.branches) == {"side", "within"}
    assert second.results.branches["side"].notes == {"reader": "two"}


async def test_a_cache_gives_nothing_that_another_one_keeps_for_longer(stages: StageHarness, find: Finder) -> None:
    await ask(stages, "- {cache: [find], seconds: 600}\n- after")
    await kept(stages)
    assert visited(await ask(stages, "- {cache: [find], seconds: 60}\n- after")) == ["find", "after"]
    assert find.asked == 2


async def test_what_failed_in_part_is_not_kept(stages: StageHarness, find: Finder) -> None:
    find.fails = True
    text = "- {cache: [{fallback: [find], otherwise: [after]}], seconds: 60}\n- after"
    assert visited(await ask(stages, text)) == ["find", "after", "after"]
    find.fails = False
    assert visited(await ask(stages, text)) == ["find", "after"]
    await kept(stages)


async def test_a_cache_may_be_all_that_there_is_and_lie_in_a_branch(stages: StageHarness, find: Finder) -> None:
    text = "- ensemble: [{name: a, then: [{cache: [find], seconds: 60}]}, {name: b, then: [after]}]"
    await ask(stages, text)
    await kept(stages)
    again = await ask(stages, text)
    assert [(hop.stage, hop.branch) for hop in again.trail] == [("cache", "a"), ("after", "b")]
    assert [passage.id for passage in again.passages] == ["p1"]


async def test_a_broker_that_has_lost_the_cache_costs_only_the_steps(stages: StageHarness, find: Finder) -> None:
    await ask(stages, PLAIN)
    await kept(stages)
    await stages.jetstream.delete_stream("CACHE")
    assert visited(await ask(stages, PLAIN)) == ["find", "after"]


async def test_what_an_older_version_kept_and_nobody_understands_is_done_again(
    stages: StageHarness, find: Finder
) -> None:
    await ask(stages, PLAIN)
    await kept(stages)
    (subject,) = (await stages.jetstream.stream_info("CACHE", subjects_filter=">")).state.subjects or {}
    await stages.jetstream.publish(subject, b'{"members": {"passages": 3}}')
    assert visited(await ask(stages, PLAIN)) == ["find", "after"]
