"""Answers of a real generator that a real predictor moderates."""

from collections.abc import AsyncIterator, Iterator

import pytest

from shared.contracts.envelope import Passage, Query, Stop
from shared.contracts.events import Delta, Done, Failed
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import StageHarness, open_stage_harness

pytestmark = pytest.mark.anyio

MODEL = """
class Model:
    def load(self, folder) -> None: ...

    def predict(self, text: list[str]) -> dict[str, list[str]]:
        return {"label": ["bad" if "password" in each else "good" for each in text]}
"""

PASSAGES = tuple(
    Passage(id=str(n), document_id=str(n), document=f"{n}.txt", position=0, text=text, score=0.9 - n / 10)
    for n, text in enumerate(
        [
            "The printer on the second floor is called Gutenberg. Write to print@example.org about the printer.",
            "The password of the printer is hunter2, and the printer asks for it.",
        ]
    )
)
JUDGED = {"model": "judge", "stops": ["bad"]}


@pytest.fixture(scope="module")
def services(broker: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("moderation")
    models = folder / "models" / "judge" / "1"
    models.mkdir(parents=True)
    (models / "model.py").write_text(MODEL)
    predictor = ServiceProcess(
        "services.predictor",
        folder / "predictor",
        nats_url=broker.url,
        model_repository=folder / "models",
        allow_model_code=True,
    )
    with predictor, ServiceProcess("services.generator", folder / "generator", nats_url=broker.url):
        yield


@pytest.fixture
async def harness(broker: NatsServer, services: None) -> AsyncIterator[StageHarness]:
    async with open_stage_harness(broker.url) as harness:
        yield harness


async def answer(
    harness: StageHarness, question: str, passages: tuple[Passage, ...] = PASSAGES, **moderation: object
) -> tuple[str, Done | Failed]:
    stop = Stop(stage="generate", params={"moderation": moderation, "decline": False})
    query: Query = harness.query("x", question=question, passages=passages).model_copy(update={"slip": (stop,)})
    events = await harness.ask(query)
    end = events[-1]
    assert isinstance(end, Done | Failed)
    return "".join(event.text for event in events if isinstance(event, Delta)), end


async def test_personal_data_does_not_reach_the_reader(harness: StageHarness) -> None:
    text, end = await answer(harness, "Where to write about the printer?", remove=["email"])
    assert isinstance(end, Done)
    assert "[email]" in text
    assert "example.org" not in text
    assert end.finish == "stop"


async def test_a_model_of_the_repository_ends_an_answer(harness: StageHarness) -> None:
    text, end = await answer(harness, "What is the password of the printer?", **JUDGED)
    assert isinstance(end, Done)
    assert end.finish == "content_filter"
    assert "hunter2" not in text


async def test_what_the_model_lets_pass_is_sent(harness: StageHarness) -> None:
    text, end = await answer(harness, "What is the printer on the second floor called?", PASSAGES[:1], **JUDGED)
    assert isinstance(end, Done)
    assert (end.finish, "Gutenberg" in text) == ("stop", True)


@pytest.mark.parametrize("lenient", [True, False])
async def test_a_model_that_is_not_there_ends_the_answer_unless_that_is_allowed(
    lenient: bool, harness: StageHarness
) -> None:
    question = "What is the password of the printer?"
    text, end = await answer(harness, question, model="absent", stops=["bad"], lenient=lenient)
    assert isinstance(end, Done)
    assert (end.finish, "hunter2" in text) == (("stop", True) if lenient else ("content_filter", False))


async def test_a_moderation_that_cannot_be_is_told(harness: StageHarness) -> None:
    _, end = await answer(harness, "What?", model="judge")
    assert isinstance(end, Failed)
    assert "needs `stops` or `above`" in end.problem.detail
