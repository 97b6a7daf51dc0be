"""What the engine writes to search with, beside the question."""

import time
from typing import Any

import pytest

from services.generator.engines.base import FinishReason, Prompt
from services.generator.engines.extractive.engine import ExtractiveConfig, ExtractiveEngine
from services.generator.stages.expand import Expand
from shared.contracts.envelope import Hop, Query, Stop
from shared.contracts.events import AnyEvent, Delivered
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.results import Expansion
from shared.prompting.templating import Templates
from shared.runtime.stage import Context
from tests.harness.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

QUESTION = "How do I undo the last commit?"
PASSAGE = "The command resets the branch to the commit before."


def written(prompt: Prompt) -> str:
    system = prompt.messages[0].content or ""
    if "passage" in system:
        return f"<think>Git.</think>\n{PASSAGE}\n"
    return (
        "1. How is a commit taken back?\n- How is a commit taken back?\n\n2) “How can I revert a commit?”\n3. And more?"
    )


async def expand(engine: ScriptedEngine | ExtractiveEngine, question: str = QUESTION, **params: Any) -> Query:
    async def send(event: AnyEvent) -> None:
        raise AssertionError(event)

    async def delivered() -> Delivered | None:
        return None

    def hop() -> Hop:
        raise AssertionError

    stop = Stop(stage="expand", params=params)
    query = Query(
        id="q1", asked_at=0, deadline=time.time() + 60, reply="r", slip=(stop, Stop(stage="embed")), question=question
    )
    origin = {"attempt": 1, "delivery": 1, "stage": "expand"}
    return await Expand(engine, Templates())(
        query, Context(query, origin=origin, hop=hop, send=send, delivered=delivered)
    )


def expansion(query: Query) -> Expansion | None:
    return query.results.expansion if query.results else None


async def test_the_model_writes_paraphrases_and_a_passage_and_the_question_stays() -> None:
    engine = ScriptedEngine(written)
    made = await expand(engine)

    assert made.question == QUESTION
    assert expansion(made) == Expansion(
        paraphrases=("How is a commit taken back?", "How can I revert a commit?"), passage=PASSAGE
    )
    assert all((prompt.messages[1].content or "") == QUESTION for prompt in engine.asked)
    assert any("2 lines" in (prompt.messages[0].content or "") for prompt in engine.asked)


async def test_the_stop_says_what_is_written() -> None:
    three = await expand(ScriptedEngine(written), paraphrases=3, passage=False)
    assert expansion(three) == Expansion(
        paraphrases=("How is a commit taken back?", "How can I revert a commit?", "And more?")
    )
    assert expansion(await expand(ScriptedEngine(written), paraphrases=0)) == Expansion(passage=PASSAGE)
    none = ScriptedEngine(written)
    assert expansion(await expand(none, paraphrases=0, passage=False)) is None
    assert none.asked == []


async def test_of_a_text_without_end_the_passage_is_used() -> None:
    made = await expand(ScriptedEngine(written, reason=FinishReason.LENGTH))
    assert expansion(made) == Expansion(passage=PASSAGE)


@pytest.mark.parametrize("params", [{"paraphrases": 6}, {"paraphrases": -1}, {"passages": True}, {"seconds": 0}])
async def test_parameters_that_are_none_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(Problem) as caught:
        await expand(ScriptedEngine(written), **params)
    assert caught.value.kind is ProblemType.INVALID_REQUEST


@pytest.mark.parametrize(
    "engine",
    [
        ScriptedEngine(""),
        ScriptedEngine(error=Problem(ProblemType.ENGINE_FAILED, "No.")),
        ExtractiveEngine(ExtractiveConfig()),
    ],
)
async def test_a_question_that_nothing_is_written_about_passes_as_it_is(
    engine: ScriptedEngine | ExtractiveEngine,
) -> None:
    assert (await expand(engine)).results is None


async def test_what_only_repeats_the_question_or_runs_on_is_no_paraphrase() -> None:
    made = await expand(ScriptedEngine(f"{QUESTION.upper()}\n{'so ' * 200}"), passage=False)
    assert made.results is None
