"""What was asked before is not computed again, and what is asked at once is computed once."""

import asyncio

import pytest

from services.embedder.model.model import Kind
from services.embedder.model.question_cache import ENTRY_BYTES, Question, QuestionCache
from shared.contracts.envelope import Lane

pytestmark = pytest.mark.anyio

ANY = 2**20


class Model:
    """Computes when it is let, and counts."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.open = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> bytes:
        self.begun += 1
        number = self.begun
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return bytes([number])


@pytest.fixture
async def model() -> Model:
    return Model()


def cache(max_bytes: int = ANY) -> QuestionCache[bytes]:
    return QuestionCache(max_bytes, len)


def question(text: str = "why?", tenant: str = "t", kind: Kind = Kind.QUERY) -> Question:
    return Question(tenant, kind, (text,))


async def begun(model: Model, count: int) -> None:
    while model.begun < count:  # noqa: ASYNC110  (each turn of the loop is a step of the tasks)
        await asyncio.sleep(0)


async def test_a_question_is_computed_once(model: Model) -> None:
    questions = cache()
    model.open.set()
    assert [await questions.get(question(), Lane.INTERACTIVE, model) for _ in range(3)] == [b"\x01"] * 3
    assert await questions.get(question(), Lane.BATCH, model) == b"\x01"
    assert model.begun == 1


@pytest.mark.parametrize("other", [question("who?"), question(tenant="u"), question(kind=Kind.PASSAGE)])
async def test_another_text_tenant_or_kind_is_another_question(model: Model, other: Question) -> None:
    questions = cache()
    model.open.set()
    assert await questions.get(question(), Lane.INTERACTIVE, model) == b"\x01"
    assert await questions.get(other, Lane.INTERACTIVE, model) == b"\x02"


async def test_the_same_question_in_work_is_waited_for(model: Model) -> None:
    questions = cache(0)
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(questions.get(question(), Lane.INTERACTIVE, model)) for _ in range(50)]
        await begun(model, 1)
        model.open.set()
    assert [task.result() for task in asked] == [b"\x01"] * 50
    assert model.begun == 1


async def test_a_question_does_not_wait_for_the_other_lane(model: Model) -> None:
    questions = cache()
    async with asyncio.TaskGroup() as tasks:
        for lane in Lane:
            tasks.create_task(questions.get(question(), lane, model))
        await begun(model, len(Lane))
        model.open.set()
    assert questions.bytes == 1 + ENTRY_BYTES + 4 * len("why?")


async def test_who_leaves_takes_nothing_from_those_who_wait(model: Model) -> None:
    questions = cache()
    first = asyncio.create_task(questions.get(question(), Lane.INTERACTIVE, model))
    await begun(model, 1)
    second = asyncio.create_task(questions.get(question(), Lane.INTERACTIVE, model))
    await asyncio.sleep(0)
    first.cancel()
    model.open.set()
    assert await second == b"\x01"
    assert first.cancelled()
    assert not model.cancelled


async def test_a_computation_ends_when_all_have_left(model: Model) -> None:
    questions = cache()
    asked = [asyncio.create_task(questions.get(question(), Lane.INTERACTIVE, model)) for _ in range(2)]
    await begun(model, 1)
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    later = asyncio.create_task(questions.get(question(), Lane.INTERACTIVE, model))
    await begun(model, 2)
    model.open.set()
    assert await later == b"\x02"
    assert model.cancelled == 1


async def test_an_error_reaches_all_who_wait_and_is_not_kept(model: Model) -> None:
    questions = cache()
    model.error = ValueError("overflow")
    asked = [asyncio.create_task(questions.get(question(), Lane.INTERACTIVE, model)) for _ in range(3)]
    await begun(model, 1)
    model.open.set()
    assert [str(error) for error in await asyncio.gather(*asked, return_exceptions=True)] == ["overflow"] * 3
    model.error = None
    assert await questions.get(question(), Lane.INTERACTIVE, model) == b"\x02"


async def test_memory_is_bounded_and_what_was_asked_longest_ago_leaves_first(model: Model) -> None:
    room = 3 * (ENTRY_BYTES + 4 + 1)
    questions = cache(room)
    model.open.set()
    for text in "abcad":  # b is the oldest when d comes
        await questions.get(question(text), Lane.INTERACTIVE, model)
    assert (model.begun, questions.bytes) == (4, room)
    for text in "acd":
        await questions.get(question(text), Lane.INTERACTIVE, model)
    assert model.begun == 4
    await questions.get(question("b"), Lane.INTERACTIVE, model)
    assert model.begun == 5


async def test_nothing_is_kept_without_room_or_larger_than_it(model: Model) -> None:
    model.open.set()
    for questions in (cache(0), cache(ENTRY_BYTES)):
        await questions.get(question(), Lane.INTERACTIVE, model)
        await questions.get(question(), Lane.INTERACTIVE, model)
        assert questions.bytes == 0
    assert model.begun == 4
