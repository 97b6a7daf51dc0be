"""What of an answer reaches its reader where it is moderated."""

import pytest
from pydantic import ValidationError

from services.generator.engines.base import TextDelta
from services.generator.streaming.moderator import AnswerStoppedError, Moderator
from shared.contracts.events import ToolCallDelta
from shared.contracts.generation import TokenLogprob
from shared.contracts.moderation import Moderation
from shared.personal_data import PersonalData

pytestmark = pytest.mark.anyio

ALL = tuple(PersonalData)


class Reader:
    def __init__(self, moderation: Moderation, forbidden: str = "") -> None:
        self.deltas: list[TextDelta] = []
        self.judged: list[str] = []
        self._forbidden = forbidden
        self.moderator = Moderator(moderation, self._take, self._judge)

    async def _take(self, delta: TextDelta) -> None:
        self.deltas.append(delta)

    async def _judge(self, sentence: str) -> bool:
        self.judged.append(sentence)
        return self._forbidden not in sentence

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_personal_data_is_removed_however_the_engine_cuts_its_pieces(size: int) -> None:
    text = "Ask Ann (ann.lee@example.org). Or call +49 30 1234567 now. Pay to DE89 3704 0044 0532 0130 00. In 2024, 7."
    reader = Reader(Moderation(remove=ALL))
    for at in range(0, len(text), size):
        await reader.moderator.send(TextDelta(text=text[at : at + size]))
    await reader.moderator.flush()
    assert reader.text == "Ask Ann ([email]). Or call [number] now. Pay to [iban]. In 2024, 7."
    assert reader.judged == []


async def test_only_the_kinds_that_are_named_are_removed() -> None:
    reader = Reader(Moderation(remove=(PersonalData.EMAIL,)))
    await reader.moderator.send(TextDelta(text="a@b.org or 030 1234567."))
    await reader.moderator.flush()
    assert reader.text == "[email] or 030 1234567."


async def test_a_sentence_that_must_not_be_sent_ends_the_answer_before_it() -> None:
    reader = Reader(Moderation(model="m", stops=("bad",)), forbidden="secret")
    await reader.moderator.send(TextDelta(text="First. "))
    await reader.moderator.send(TextDelta(text="Second. The sec"))
    assert reader.text == "First. Second."[: len(reader.text)]
    await reader.moderator.send(TextDelta(text="ret is 42. "))
    with pytest.raises(AnswerStoppedError):
        await reader.moderator.send(TextDelta(text="More."))
    assert reader.text.strip() == "First. Second."
    assert reader.judged == ["First.", "Second.", "The secret is 42."]


async def test_what_is_held_back_is_bounded_and_no_word_is_cut() -> None:
    reader = Reader(Moderation(remove=ALL, hold_back=40))
    words = "word " * 200
    most = 0
    for at in range(0, len(words), 7):
        await reader.moderator.send(TextDelta(text=words[at : at + 7]))
        most = max(most, at + 7 - len(reader.text))
    await reader.moderator.flush()
    assert reader.text == words
    assert most <= 40 + 7
    assert all(not delta.text or delta.text.split()[-1] == "word" for delta in reader.deltas if delta.text.strip())


async def test_one_endless_word_is_passed_too() -> None:
    reader = Reader(Moderation(remove=ALL, hold_back=20))
    for _ in range(100):
        await reader.moderator.send(TextDelta(text="abc"))
    await reader.moderator.flush()
    assert reader.text == "abc" * 100


async def test_nothing_tells_what_was_removed_and_calls_of_tools_pass() -> None:
    reader = Reader(Moderation(remove=ALL))
    logprob = TokenLogprob(token="a@b.org", logprob=-1.0)
    await reader.moderator.send(TextDelta(text="a@b.org.", reasoning="a@b.org", logprobs=(logprob,), tokens=(1,)))
    await reader.moderator.send(TextDelta(tool_calls=(ToolCallDelta(index=0, name="f"),)))
    await reader.moderator.flush()
    assert reader.text == "[email]."
    assert not any(delta.reasoning or delta.logprobs or delta.tokens for delta in reader.deltas)
    assert [call.name for delta in reader.deltas for call in delta.tool_calls] == ["f"]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({}, "name what to `remove`"),
        ({"model": "m"}, "needs `stops` or `above`"),
        ({"remove": ["email"], "stops": ["bad"]}, "need a `model`"),
        ({"remove": ["phone"]}, "email"),
        ({"remove": ["email"], "hold_back": 1}, "greater than or equal to 20"),
        ({"remove": ["email"], "patterns": ["x"]}, "Extra inputs"),
    ],
)
def test_a_moderation_that_does_nothing_or_too_much_is_refused(members: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Moderation.model_validate(members)
