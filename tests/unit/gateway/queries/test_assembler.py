"""An answer comes out once and whole, whatever tries were made at it."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.queries.assembler import (
    AnswerAssembler,
    Ended,
    NewReasoning,
    NewSources,
    NewText,
    NewToolCall,
    Part,
    ToolCall,
)
from shared.contracts.envelope import Hop, Passage, Query
from shared.contracts.events import AnyEvent, Delivered, Delta, Done, Failed, Progress, Result, Resumed, Sources, Usage
from shared.contracts.generation import TokenLogprob, ToolCallDelta
from shared.contracts.problems import Problem, ProblemType

TEXT = st.text(alphabet="abc \n\u00e9\u4e16", max_size=30)
TRIES = st.sampled_from([((1, 1), (1, 2)), ((1, 2), (2, 1)), ((1, 1), (3, 1)), ((2, 1), (2, 4))])


def passage(number: int, score: float = 0.5) -> Passage:
    return Passage(
        id=f"d:{number}", document_id="d", document="d.txt", position=number, text=f"text {number}", score=score
    )


def one_try(pieces: list[str], attempt: int = 1, delivery: int = 1) -> list[AnyEvent]:
    origin = {"attempt": attempt, "delivery": delivery, "stage": "generate"}
    deltas = [Delta(index=index, text=text, **origin) for index, text in enumerate(pieces)]
    sources = Sources(passages=(passage(1), passage(2)), **origin)
    return [Progress(**origin), sources, *deltas, Done(deltas=len(pieces), engine="e", **origin)]


def read(answer: AnswerAssembler, events: list[AnyEvent]) -> list[Part]:
    """All parts until the answer ends."""
    parts: list[Part] = []
    for event in events:
        parts += answer.take(event)
        if parts and isinstance(parts[-1], Ended):
            break
    return parts


def text_of(parts: list[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, NewText))


@st.composite
def split(draw: st.DrawFn, text: str) -> list[str]:
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=6)) | {0, len(text)})
    return [text[start:end] for start, end in pairwise(cuts)]


@st.composite
def two_tries(draw: st.DrawFn) -> tuple[str, list[AnyEvent]]:
    """A text, and the events of an unfinished and a whole try at it in any interleaving."""
    text = draw(TEXT)
    first, second = draw(TRIES)
    older = one_try(draw(split(text)), *first)[: draw(st.integers(0, 8))]
    newer = one_try(draw(split(text)), *second)
    older = [event for event in older if not isinstance(event, Done)]
    merged: list[AnyEvent] = []
    while older or newer:
        source = older if older and (not newer or draw(st.booleans())) else newer
        merged.append(source.pop(0))
    return text, merged


@given(two_tries())
def test_any_interleaving_of_two_tries_gives_a_stream_the_text_exactly_once(case: tuple[str, list[AnyEvent]]) -> None:
    text, events = case
    parts = read(AnswerAssembler(append_only=True), events)
    assert text_of(parts) == text
    assert sum(isinstance(part, NewSources) for part in parts) == 1
    assert isinstance(parts[-1], Ended)


@given(two_tries())
def test_any_interleaving_of_two_tries_gives_the_text_exactly_once_as_a_whole(
    case: tuple[str, list[AnyEvent]],
) -> None:
    text, events = case
    answer = AnswerAssembler(append_only=False)
    assert isinstance(read(answer, events)[-1], Ended)
    assert answer.text == text
    assert answer.sources == (passage(1), passage(2))


@given(TEXT, st.data())
def test_one_try_is_passed_on_as_it_comes(text: str, data: st.DataObject) -> None:
    pieces = data.draw(split(text))
    parts = read(AnswerAssembler(append_only=True), one_try(pieces))
    assert [part.text for part in parts if isinstance(part, NewText)] == [piece for piece in pieces if piece]


def test_the_end_carries_usage_engine_and_trail() -> None:
    hop = Hop(stage="generate", variant="default", worker="w", waited_ms=1, worked_ms=2)
    usage = Usage(prompt_tokens=3, completion_tokens=4)
    done = Done(deltas=0, usage=usage, engine="extractive", trail=(hop,), stage="generate")
    assert AnswerAssembler(append_only=True).take(done) == (Ended(usage=usage, engine="extractive", trail=(hop,)),)


def test_a_stream_breaks_off_where_another_try_says_something_else() -> None:
    answer = AnswerAssembler(append_only=True)
    read(answer, one_try(["The ", "cat"])[:4])
    with pytest.raises(Problem) as caught:
        read(answer, one_try(["The dog"], delivery=2))
    assert caught.value.kind is ProblemType.ANSWER_INTERRUPTED


def test_a_stream_breaks_off_where_another_try_ends_earlier() -> None:
    answer = AnswerAssembler(append_only=True)
    read(answer, one_try(["The ", "cat"])[:4])
    with pytest.raises(Problem) as caught:
        read(answer, one_try(["The"], delivery=2))
    assert caught.value.kind is ProblemType.ANSWER_INTERRUPTED


def test_a_whole_answer_takes_what_the_newer_try_says() -> None:
    answer = AnswerAssembler(append_only=False)
    read(answer, one_try(["The ", "cat"])[:4])
    assert isinstance(read(answer, one_try(["A dog"], delivery=2))[-1], Ended)
    assert answer.text == "A dog"


def test_a_stream_breaks_off_where_another_try_has_other_sources() -> None:
    answer = AnswerAssembler(append_only=True)
    answer.take(Sources(passages=(passage(1),)))
    with pytest.raises(Problem) as caught:
        answer.take(Sources(passages=(passage(2),), delivery=2))
    assert caught.value.kind is ProblemType.ANSWER_INTERRUPTED


def test_other_scores_of_the_same_sources_do_not_matter() -> None:
    answer = AnswerAssembler(append_only=True)
    answer.take(Sources(passages=(passage(1, score=0.5),)))
    assert answer.take(Sources(passages=(passage(1, score=0.5000001),), delivery=2)) == ()


@pytest.mark.parametrize("append_only", [True, False])
@pytest.mark.parametrize(
    "events",
    [
        [Delta(index=1, text="late")],
        [Delta(index=0, text="a"), Delta(index=2, text="c")],
        [Delta(index=0, text="a"), Done(deltas=2)],
        [Done(deltas=1)],
    ],
)
def test_a_lost_piece_breaks_the_answer_off(events: list[AnyEvent], append_only: bool) -> None:
    with pytest.raises(Problem) as caught:
        read(AnswerAssembler(append_only=append_only), events)
    assert caught.value.kind is ProblemType.ANSWER_INTERRUPTED


def test_a_failure_is_raised_with_the_stage_that_failed() -> None:
    problem = Problem(ProblemType.ENGINE_FAILED, "no")
    with pytest.raises(Problem) as caught:
        AnswerAssembler(append_only=True).take(Failed(problem=problem.details, stage="generate"))
    assert (caught.value.kind, caught.value.extras) == (ProblemType.ENGINE_FAILED, {"stage": "generate"})


def test_a_failure_of_an_attempt_that_no_longer_counts_is_ignored() -> None:
    answer = AnswerAssembler(append_only=True)
    answer.expect(2)
    assert answer.take(Failed(problem=Problem(ProblemType.ENGINE_FAILED, "no").details, attempt=1)) == ()


def test_a_redelivery_in_one_stage_does_not_make_the_next_stage_stale() -> None:
    answer = AnswerAssembler(append_only=True)
    answer.take(Progress(stage="embed", delivery=3))
    assert text_of(read(answer, one_try(["text"]))) == "text"


def test_a_slip_without_a_generator_gives_its_passages_and_no_text() -> None:
    hop = Hop(stage="retrieve", variant="default", worker="w", waited_ms=1, worked_ms=2)
    query = Query(id="q", asked_at=0, deadline=1, reply="r", slip=(), passages=(passage(1),), trail=(hop,))
    answer = AnswerAssembler(append_only=True)
    parts = answer.take(Result(query=query, stage="retrieve"))
    assert parts == (NewSources((passage(1),)), Ended(trail=(hop,)))
    assert answer.text == ""


SECOND = {"attempt": 1, "delivery": 2, "stage": "generate"}


def coded(pieces: list[str], **origin: object) -> list[AnyEvent]:
    """Deltas whose tokens are the code points of their text, and the end."""
    origin = origin or {"stage": "generate"}
    deltas = [
        Delta(index=index, text=text, tokens=tuple(map(ord, text)), **origin)  # type: ignore[arg-type]
        for index, text in enumerate(pieces)
    ]
    return [*deltas, Done(deltas=len(pieces), **origin)]  # type: ignore[arg-type]


@pytest.mark.parametrize("append_only", [True, False])
@given(text=TEXT.filter(bool), data=st.data())
def test_a_new_try_goes_on_from_what_the_reader_has(append_only: bool, text: str, data: st.DataObject) -> None:
    pieces = data.draw(split(text))
    taken = data.draw(st.integers(0, len(pieces)))
    answer = AnswerAssembler(append_only=append_only)
    parts = read(answer, coded(pieces)[:taken])
    delivered = answer.report_delivered(Progress(**SECOND))
    assert delivered is not None
    assert (delivered.text, delivered.tokens) == ("".join(pieces[:taken]), tuple(map(ord, "".join(pieces[:taken]))))
    late = coded(pieces)[taken:]
    assert [answer.take(event) for event in late] == [()] * len(late)
    answer.take(Resumed(characters=len(delivered.text), **SECOND))
    parts += read(answer, coded(data.draw(split(text[len(delivered.text) :])), **SECOND))
    assert text_of(parts) == answer.text == text
    assert isinstance(parts[-1], Ended)


def test_a_third_try_goes_on_from_what_the_second_added() -> None:
    answer = AnswerAssembler(append_only=True)
    read(answer, coded(["The ", "blue "])[:2])
    answer.report_delivered(Progress(**SECOND))
    answer.take(Resumed(characters=9, **SECOND))
    read(answer, coded(["lamp"], **SECOND)[:1])
    third = SECOND | {"delivery": 3}
    delivered = answer.report_delivered(Progress(**third))
    assert delivered == Delivered(text="The blue lamp", tokens=tuple(map(ord, "The blue lamp")))
    answer.take(Resumed(characters=13, **third))
    assert text_of(read(answer, coded([" burns"], **third))) == " burns"
    assert answer.text == "The blue lamp burns"


def test_a_try_that_is_stale_itself_is_told_nothing() -> None:
    answer = AnswerAssembler(append_only=True)
    answer.report_delivered(Progress(stage="generate", delivery=3))
    assert answer.report_delivered(Progress(stage="generate", delivery=2)) is None


def test_a_try_after_one_that_sent_no_tokens_gets_the_text_alone() -> None:
    answer = AnswerAssembler(append_only=True)
    answer.take(Delta(index=0, text="The ", stage="generate"))
    assert answer.report_delivered(Progress(**SECOND)) == Delivered(text="The ")


def test_a_try_that_died_while_it_wrote_anew_leaves_what_the_reader_had() -> None:
    answer = AnswerAssembler(append_only=True)
    read(answer, coded(["The blue ", "lamp"])[:2])
    read(answer, coded(["The "], **SECOND)[:1])
    delivered = answer.report_delivered(Progress(stage="generate", delivery=3))
    assert delivered == Delivered(text="The blue lamp")


def test_a_try_that_goes_on_from_elsewhere_breaks_the_answer_off() -> None:
    answer = AnswerAssembler(append_only=True)
    read(answer, coded(["The blue "])[:1])
    answer.report_delivered(Progress(**SECOND))
    with pytest.raises(Problem) as caught:
        answer.take(Resumed(characters=4, **SECOND))
    assert caught.value.kind is ProblemType.ANSWER_INTERRUPTED


def test_a_tool_call_comes_in_pieces_and_is_whole_in_the_end() -> None:
    answer = AnswerAssembler(append_only=True)
    first = ToolCallDelta(index=0, id="c0", name="look", arguments='{"at":')
    parts = read(
        answer,
        [
            Delta(index=0, tool_calls=(first,)),
            Delta(index=1, tool_calls=(ToolCallDelta(index=0, arguments=" 1}"),)),
            Done(deltas=2, finish="tool_calls"),
        ],
    )
    assert parts[:2] == [
        NewToolCall(index=0, id="c0", name="look", arguments='{"at":'),
        NewToolCall(index=0, arguments=" 1}"),
    ]
    assert answer.tool_calls == (ToolCall(id="c0", name="look", arguments='{"at": 1}'),)


def test_a_tool_call_that_another_try_writes_again_reaches_the_reader_once() -> None:
    answer = AnswerAssembler(append_only=True)
    call = ToolCallDelta(index=0, id="c0", name="look", arguments='{"at":')
    answer.take(Delta(index=0, tool_calls=(call,)))
    assert answer.report_delivered(Progress(**SECOND)) == Delivered()
    whole = ToolCallDelta(index=0, id="c0", name="look", arguments='{"at": 1}')
    parts = read(answer, [Delta(index=0, tool_calls=(whole,), **SECOND), Done(deltas=1, **SECOND)])
    assert parts[0] == NewToolCall(index=0, arguments=" 1}")
    assert answer.tool_calls[0].arguments == '{"at": 1}'


def test_thoughts_and_logprobs_come_with_their_text() -> None:
    answer = AnswerAssembler(append_only=True)
    logprob = TokenLogprob(token="The", logprob=-0.5)
    parts = read(answer, [Delta(index=0, reasoning="hm"), Delta(index=1, text="The", logprobs=(logprob,))])
    assert parts == [NewReasoning("hm"), NewText("The", (logprob,))]
    assert (answer.reasoning, answer.logprobs) == ("hm", (logprob,))


def test_the_logprobs_of_a_token_that_shows_nothing_yet_are_passed_on() -> None:
    logprob = TokenLogprob(token="\\xe2", logprob=-0.5)
    assert AnswerAssembler(append_only=True).take(Delta(index=0, logprobs=(logprob,))) == (NewText("", (logprob,)),)


def test_an_answer_that_was_gone_on_with_has_the_logprobs_of_all_of_it() -> None:
    first, second = TokenLogprob(token="a", logprob=-1.0), TokenLogprob(token="b", logprob=-2.0)
    answer = AnswerAssembler(append_only=False)
    answer.take(Delta(index=0, text="a", logprobs=(first,), tokens=(1,)))
    answer.report_delivered(Progress(**SECOND))
    answer.take(Resumed(characters=1, **SECOND))
    answer.take(Delta(index=0, text="b", logprobs=(second,), tokens=(2,), **SECOND))
    assert (answer.text, answer.logprobs) == ("ab", (first, second))


@given(TEXT.flatmap(lambda text: st.tuples(split(text), split(text))), st.randoms())
def test_of_the_same_work_published_twice_the_first_is_the_answer(
    pieces: tuple[list[str], list[str]], dice: random.Random
) -> None:
    first = [event.model_copy(update={"message": 7}) for event in one_try(pieces[0])]
    second = [event.model_copy(update={"message": 9}) for event in one_try(pieces[1])]
    merged = [first.pop(0)]
    while first or second:
        merged.append((first if first and (not second or dice.random() < 0.5) else second).pop(0))
    for append_only in (True, False):
        parts = read(AnswerAssembler(append_only=append_only), merged)
        assert text_of(parts) == "".join(pieces[0])
        assert sum(isinstance(part, NewSources) for part in parts) == 1
        assert isinstance(parts[-1], Ended)
