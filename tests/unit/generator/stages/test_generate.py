"""The stage `generate`: what it asks of the engine and what it tells the reader."""

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from services.generator.engines.base import Finish, FinishReason, Item, Prepared, Prompt, TextDelta
from services.generator.stages.generate import Generate
from shared.contracts.envelope import Hop, Message, Neighbour, Passage, Query, Stop
from shared.contracts.events import AnyEvent, Delivered, Delta, Done, Resumed, Sources, Usage
from shared.contracts.generation import ContextReport, GenerateParams, Mode, OutputFormat, TokenLogprob, ToolCallDelta
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.stage import Context

pytestmark = pytest.mark.anyio

TOOL = {"type": "function", "function": {"name": "look"}}


@dataclass
class Script:
    """An engine that says what it is told to say, and remembers what it was asked."""

    items: Sequence[TextDelta] = ()
    reason: FinishReason = FinishReason.STOP
    resumes: bool = True
    model: str = "tiny"
    name: str = "script"
    room: int = 4
    adapters: tuple[str, ...] = ()
    report: ContextReport = ContextReport(window=100, prompt_tokens=7)
    asked: list[Prompt] = field(default_factory=list)
    after: list[Delivered | None] = field(default_factory=list)

    async def start(self) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""

    async def prepare(self, prompt: Prompt) -> Prepared:
        self.asked.append(prompt)
        return Prepared(prompt=prompt, context=self.report)

    async def generate(self, prepared: Prepared, after: Delivered | None = None) -> AsyncGenerator[Item, None]:
        self.after.append(after)
        for item in self.items:
            yield item
        yield Finish(self.reason, Usage(prompt_tokens=7, completion_tokens=len(self.items)))


def query(params: GenerateParams = GenerateParams(), **changes: Any) -> Query:
    passages = tuple(Passage(id=f"{n}", document_id="d", document="d.md", position=n, text=f"T{n}.") for n in range(2))
    made = {
        "id": "q1",
        "asked_at": 0.0,
        "deadline": time.time() + 60,
        "reply": "reply.g.q1",
        "slip": (Stop(stage="generate", params=params.encode()),),
        "question": "Why?",
        "passages": passages,
    }
    return Query.model_validate(made | changes)


async def run(engine: Script, asked: Query, *, delivered: Delivered | None = None, adapter: str = "") -> list[AnyEvent]:
    events: list[AnyEvent] = []

    async def send(event: AnyEvent) -> None:
        events.append(event)

    async def given() -> Delivered | None:
        return delivered

    def hop() -> Hop:
        return Hop(stage="generate", variant="default", worker="w", waited_ms=0, worked_ms=0)

    delivery = 1 if delivered is None else 2
    context = Context(
        asked, origin={"attempt": 1, "delivery": delivery, "stage": "generate"}, hop=hop, send=send, delivered=given
    )
    assert await Generate(engine, adapter)(asked, context) is None
    return events


def texts(events: list[AnyEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def done(events: list[AnyEvent]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


def says(*words: str) -> list[TextDelta]:
    return [TextDelta(text=word, tokens=(len(word),)) for word in words]


class TestAnswer:
    async def test_sources_come_first_and_the_end_says_what_was_cited_and_left_out(self) -> None:
        report = ContextReport(window=100, prompt_tokens=9, shortened=(2,))
        events = await run(Script(says("Yes", " [", "2", "]", " [7]", "."), report=report), query())

        assert isinstance(events[0], Sources)
        assert texts(events) == "Yes [2]."
        end = done(events)
        assert (end.cited, end.context, end.finish, end.model, end.engine) == ((2,), report, "stop", "tiny", "script")

    async def test_sources_keep_the_text_around_them_that_the_engine_was_shown(self) -> None:
        around = (Neighbour(position=2, text="Before."), Neighbour(position=4, text="After."))
        passages = tuple(
            Passage(id=name, document_id=name, document=name, position=3, text="Hit.", context=around) for name in "ab"
        )
        engine = Script(says("So [1]."), report=ContextReport(window=100, joined=(2,)))
        events = await run(engine, query(passages=passages))

        assert isinstance(events[0], Sources)
        assert [passage.context for passage in events[0].passages] == [(), around]
        assert [passage.text for passage in events[0].passages] == ["Hit.", "Hit."]
        assert [(p.text, p.own) for p in engine.asked[0].passages] == [("Before.\n\nHit.\n\nAfter.", "Hit.")] * 2
        assert done(events).context.joined == (2,)

    @pytest.mark.parametrize(("joined", "supported"), [((), False), ((1,), True)])
    async def test_an_answer_is_supported_by_the_text_around_a_passage_only_where_that_was_shown(
        self, joined: tuple[int, ...], supported: bool
    ) -> None:
        around = (Neighbour(position=4, text="The tower was finished in 1889."),)
        passages = (Passage(id="a", document_id="a", document="a", position=3, text="It is tall.", context=around),)
        engine = Script(says("The tower was finished in 1889 [1]."), report=ContextReport(window=100, joined=joined))
        events = await run(engine, query(passages=passages))

        assert [one.supported for one in done(events).supported] == [supported]

    async def test_a_source_that_was_left_out_of_the_prompt_cannot_be_cited(self) -> None:
        events = await run(Script(says("A [1]. B [2]."), report=ContextReport(window=9, dropped=(2,))), query())

        assert texts(events) == "A [1]. B."
        assert done(events).cited == (1,)

    async def test_a_condensed_question_is_shown_as_it_was_asked(self) -> None:
        engine = Script()
        await run(engine, query(question="Why is the sky blue?", notes={"original_question": "Why is it?"}))

        assert engine.asked[0].question == "Why is it?"
        assert engine.asked[0].standalone == "Why is the sky blue?"

    async def test_an_answer_of_nothing_has_an_end(self) -> None:
        events = await run(Script(), query())

        assert [type(event) for event in events] == [Sources, Done]
        assert done(events).deltas == 0

    async def test_the_model_is_not_looked_at(self) -> None:
        events = await run(Script(), query(GenerateParams(model="rag/manuals")))

        assert isinstance(events[-1], Done)


class TestOtherModes:
    async def test_a_chat_is_passed_through_as_it_is(self) -> None:
        message = Message(role="user", content="Hi")
        logprobs = (TokenLogprob(token="A", logprob=-0.5),)
        items = [TextDelta(reasoning="Hm."), TextDelta(text="A [9]", logprobs=logprobs, tokens=(1, 2))]
        engine = Script(items, reason=FinishReason.LENGTH)
        events = await run(engine, query(GenerateParams(mode=Mode.CHAT), messages=(message,)))

        thought, said, end = events
        assert isinstance(thought, Delta)
        assert isinstance(said, Delta)
        assert isinstance(end, Done)
        assert thought.reasoning == "Hm."
        assert (said.text, said.logprobs, said.tokens) == ("A [9]", logprobs, (1, 2))
        assert (end.finish, end.cited) == ("length", ())
        assert engine.asked[0].messages == (message,)

    @pytest.mark.parametrize("mode", [Mode.CHAT, Mode.COMPLETION])
    async def test_another_model_than_the_one_served_is_a_problem(self, mode: Mode) -> None:
        with pytest.raises(Problem) as caught:
            await run(Script(), query(GenerateParams(mode=mode, model="huge")))
        assert caught.value.kind is ProblemType.MODEL_NOT_FOUND

    @pytest.mark.parametrize("model", [None, "tiny", "legal"])
    async def test_the_model_and_its_adapters_are_served(self, model: str | None) -> None:
        engine = Script(adapters=("legal",))
        events = await run(engine, query(GenerateParams(mode=Mode.CHAT, model=model)), adapter="legal")

        assert engine.asked[0].adapter == "legal"
        assert done(events).model == "legal"

    async def test_tool_calls_have_ids_that_every_worker_would_give_them(self) -> None:
        calls = [
            TextDelta(tool_calls=(ToolCallDelta(index=0, id="random", name="look"),)),
            TextDelta(tool_calls=(ToolCallDelta(index=0, arguments="{}"), ToolCallDelta(index=1, name="look"))),
        ]
        engine = Script(calls, reason=FinishReason.TOOL_CALLS)
        events = await run(engine, query(GenerateParams(mode=Mode.CHAT, tools=(TOOL,))))

        sent = [call for event in events if isinstance(event, Delta) for call in event.tool_calls]
        assert [call.id for call in sent] == ["call_q1_0", None, "call_q1_1"]
        assert done(events).finish == "tool_calls"


class TestGoingOn:
    async def test_it_goes_on_after_what_the_reader_has(self) -> None:
        delivered = Delivered(text="As [2] says, `", tokens=(1, 2, 3))
        engine = Script(says("x[9]`", " [9]", " [1]."))
        events = await run(engine, query(), delivered=delivered)

        assert [type(event) for event in events[:2]] == [Sources, Resumed]
        assert isinstance(events[1], Resumed)
        assert events[1].characters == len(delivered.text)
        assert engine.after == [delivered]
        assert texts(events) == "x[9]` [1]."
        assert done(events).cited == (2, 1)

    async def test_an_engine_that_has_nothing_to_add_only_ends_the_answer(self) -> None:
        events = await run(Script(), query(), delivered=Delivered(text="All of it [1]."))

        assert [type(event) for event in events] == [Sources, Resumed, Done]
        assert done(events).cited == (1,)

    @pytest.mark.parametrize(
        ("resumes", "params", "text"),
        [
            (False, GenerateParams(), "So"),
            (True, GenerateParams(output=OutputFormat(regex="a+")), "So"),
            (True, GenerateParams(tools=(TOOL,)), "So"),
            (True, GenerateParams(), ""),
        ],
    )
    async def test_otherwise_it_writes_the_answer_anew(self, resumes: bool, params: GenerateParams, text: str) -> None:
        engine = Script(says("So", " it is."), resumes=resumes)
        events = await run(engine, query(params), delivered=Delivered(text=text))

        assert engine.after == [None]
        assert not [event for event in events if isinstance(event, Resumed)]
        assert texts(events) == "So it is."


class TestSeed:
    async def test_an_answer_in_a_form_has_a_seed_of_its_query(self) -> None:
        engine = Script()
        params = GenerateParams(output=OutputFormat(json_object=True))
        for one in ("q1", "q1", "q2"):
            await run(engine, query(params, id=one))

        first, again, other = (prompt.params.seed for prompt in engine.asked)
        assert first == again != other
        assert first is not None
        assert 0 <= first < 2**31

    @pytest.mark.parametrize(
        "params",
        [
            GenerateParams(),
            GenerateParams(tools=(TOOL,), temperature=0),
            GenerateParams(tools=(TOOL,), seed=5),
        ],
    )
    async def test_others_keep_theirs(self, params: GenerateParams) -> None:
        engine = Script()
        await run(engine, query(params))

        assert engine.asked[0].params.seed == params.seed


FACT = "T0 is the first text of all."
INVENTED = "The moon is made of cheese. Nobody knows the captain. "


def grounded(**params: Any) -> Query:
    passages = (Passage(id="0", document_id="d", document="d.md", position=0, text=FACT),)
    return query(GenerateParams(**params), passages=passages)


async def test_the_end_of_an_answer_says_which_sentences_are_supported() -> None:
    events = await run(Script([TextDelta(text=FACT), TextDelta(text=" The moon is made of cheese.")]), grounded())

    done = events[-1]
    assert isinstance(done, Done)
    assert [(one.sentence, one.supported, one.sources) for one in done.supported] == [
        (FACT, True, (1,)),
        ("The moon is made of cheese.", False, ()),
    ]
    assert done.supported_by == "words"


async def test_unsupported_sentences_are_dropped_where_the_request_says_so() -> None:
    events = await run(Script([TextDelta(text=INVENTED + FACT)]), grounded(unsupported="drop"))

    assert texts(events) == FACT
    done = events[-1]
    assert isinstance(done, Done)
    assert [one.supported for one in done.supported] == [False, False, True]


async def test_an_answer_that_hardly_any_source_supports_is_written_once_more_before_any_of_it_is_sent() -> None:
    engine = Rewriting(first=[TextDelta(text=INVENTED)], second=[TextDelta(text=FACT)])
    events = await run(engine, grounded(unsupported="retry"))

    assert texts(events) == FACT
    assert [len(prompt.messages) for prompt in engine.asked] == [0, 1]
    assert engine.asked[1].messages[0].role == "system"
    done = events[-1]
    assert isinstance(done, Done)
    assert done.usage.prompt_tokens == 14, "both count"


async def test_the_better_of_two_answers_is_sent() -> None:
    engine = Rewriting(first=[TextDelta(text=INVENTED + FACT)], second=[TextDelta(text=INVENTED)])

    assert texts(await run(engine, grounded(unsupported="retry"))) == INVENTED + FACT


async def test_an_answer_that_the_reader_has_a_part_of_is_not_written_again() -> None:
    engine = Rewriting(first=[TextDelta(text=INVENTED)], second=[TextDelta(text=FACT)])
    events = await run(engine, grounded(unsupported="retry"), delivered=Delivered(text="The "))

    assert texts(events) == INVENTED
    assert len(engine.asked) == 1


@dataclass
class Rewriting(Script):
    """Says something else the second time."""

    first: Sequence[TextDelta] = ()
    second: Sequence[TextDelta] = ()

    async def generate(self, prepared: Prepared, after: Delivered | None = None) -> AsyncGenerator[Item, None]:
        self.items = self.first if len(self.asked) == 1 else self.second
        async for item in super().generate(prepared, after):
            yield item
