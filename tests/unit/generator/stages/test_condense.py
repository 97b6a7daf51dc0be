"""Follow-up questions are made to stand alone before anything is searched for."""

import time

import pytest

from services.generator.engines.base import EngineLostError, FinishReason
from services.generator.engines.extractive.engine import ExtractiveConfig, ExtractiveEngine
from services.generator.grounding.followup import is_followup, made_standalone
from services.generator.stages.condense import Condense
from shared.contracts.envelope import Hop, Message, Query, Stop
from shared.contracts.events import AnyEvent, Delivered
from shared.contracts.generation import Mode
from shared.contracts.problems import Problem, ProblemType
from shared.prompting.templating import Templates
from shared.runtime.stage import Context
from tests.harness.scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

TEMPLATES = Templates()
TALK = (
    Message(role="user", content="How high is the Eiffel Tower?"),
    Message(role="assistant", content="330 metres, with its antenna [1]."),
)


async def condense(
    engine: ScriptedEngine | ExtractiveEngine,
    question: str,
    messages: tuple[Message, ...] = TALK,
    timeout: float = 60.0,
) -> Query:
    async def send(event: AnyEvent) -> None:
        raise AssertionError(event)

    async def delivered() -> Delivered | None:
        return None

    def hop() -> Hop:
        raise AssertionError

    query = Query(
        id="q1",
        asked_at=0,
        deadline=time.time() + timeout,
        reply="r",
        slip=(Stop(stage="condense"), Stop(stage="embed")),
        question=question,
        messages=messages,
        notes={"kept": 1},
    )
    context = Context(
        query, origin={"attempt": 1, "delivery": 1, "stage": "condense"}, hop=hop, send=send, delivered=delivered
    )
    return await Condense(engine, TEMPLATES)(query, context)


class TestWithAModel:
    async def test_the_model_rewrites_and_the_asked_question_is_kept(self) -> None:
        engine = ScriptedEngine("How old is the Eiffel Tower?")
        made = await condense(engine, "And how old is it?")

        assert made.question == "How old is the Eiffel Tower?"
        assert made.notes == {"kept": 1, "original_question": "And how old is it?"}
        assert made.messages == TALK
        asked = engine.asked[0]
        assert (asked.params.mode, asked.params.temperature) == (Mode.CHAT, 0.0)
        assert [message.role for message in asked.messages] == ["system", "user"]
        assert "assistant: 330 metres, with its antenna [1].\n" in (asked.messages[1].content or "")
        assert (asked.messages[1].content or "").endswith("Last question: And how old is it?")

    @pytest.mark.parametrize(
        "text",
        [
            'Stand-alone question: "How old is the Eiffel Tower?"\n',
            "<think>The tower.</think>\n\n**How old is the Eiffel Tower?**",
        ],
    )
    async def test_what_models_write_around_the_question_is_removed(self, text: str) -> None:
        made = await condense(ScriptedEngine(text), "And how old is it?")

        assert made.question == "How old is the Eiffel Tower?"

    @pytest.mark.parametrize(
        "engine",
        [
            ScriptedEngine(""),
            ScriptedEngine("zxqj brrr"),
            ScriptedEngine("How old is the tower? " * 40),
            ScriptedEngine("The tower\nis old."),
            ScriptedEngine("How old is the Eiffel", reason=FinishReason.LENGTH),
            ScriptedEngine(error=Problem(ProblemType.ENGINE_FAILED, "No.")),
        ],
    )
    async def test_what_makes_no_sense_or_fails_gives_way_to_the_heuristic(self, engine: ScriptedEngine) -> None:
        made = await condense(engine, "And how old is it?")

        assert made.question == "high Eiffel Tower: And how old is it?"

    async def test_a_silent_engine_gives_way_within_a_third_of_the_time_left(self) -> None:
        made = await condense(ScriptedEngine(silent=True), "And how old is it?", timeout=0.3)

        assert made.question == "high Eiffel Tower: And how old is it?"

    async def test_the_loss_of_the_engine_is_not_hidden(self) -> None:
        with pytest.raises(EngineLostError):
            await condense(ScriptedEngine(error=EngineLostError()), "And how old is it?")

    async def test_a_first_question_passes_without_asking_the_engine(self) -> None:
        engine = ScriptedEngine("Never.")
        system = Message(role="system", content="Be kind.")
        made = await condense(engine, "How old is it?", (system,))

        assert made.question == "How old is it?"
        assert engine.asked == []
        assert "original_question" not in made.notes

    async def test_long_conversations_are_shown_in_part_and_control_tokens_not_at_all(self) -> None:
        engine = ScriptedEngine("How old is the word tower?")
        await condense(
            engine, "And it?", tuple(Message(role="user", content="<|im_start|> word " * 900) for _ in "x" * 50)
        )

        shown = engine.asked[0].messages[1].content or ""
        assert len(shown) < 10_000
        assert "<|im_start|>" not in shown


async def test_without_a_model_the_earlier_question_gives_its_words() -> None:
    made = await condense(ExtractiveEngine(ExtractiveConfig()), "And how old is it?")

    assert made.question == "high Eiffel Tower: And how old is it?"
    assert made.notes["original_question"] == "And how old is it?"


@pytest.mark.parametrize(
    "question",
    [
        "And how old is it?",
        "Why?",
        "What about Paris?",
        "How do they differ?",
        "Who built this?",
        "What is the first one made of?",
        "Can you say more about that?",
        "Wer hat dieses gebaut?",
        "Et pourquoi?",
    ],
)
def test_questions_that_point_back_are_told(question: str) -> None:
    assert is_followup(question)


@pytest.mark.parametrize(
    "question",
    [
        "How old is the Eiffel Tower?",
        "What is LanceDB?",
        "Which file holds the settings that a service reads?",
        "Is that setting read by the gateway?",
        "Warum ist der Himmel blau?",
        "Quelle est la hauteur de la tour?",
        "这座塔有多高",
        "it " * 1000,
    ],
)
def test_questions_that_stand_alone_are_left_alone(question: str) -> None:
    assert not is_followup(question)
    assert made_standalone(question, ["How high is the tower?"]) == question


def test_a_chain_of_follow_ups_leads_back_to_its_subject() -> None:
    earlier = ["What colour is the sea?", "How high is the Eiffel Tower?", "And how wide is it?"]

    assert made_standalone("Who built it?", earlier) == "high Eiffel Tower wide: Who built it?"


def test_words_that_the_question_has_already_are_not_repeated_and_there_are_not_many() -> None:
    assert made_standalone("How old is that tower and its lift?", ["How high is the tower in Paris?"]) == (
        "high Paris: How old is that tower and its lift?"
    )
    many = made_standalone("Why is it?", [" ".join(f"word{n}" for n in range(100))])
    assert many.count("word") == 12
    assert made_standalone("Why?", []) == "Why?"
