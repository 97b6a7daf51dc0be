"""What becomes of an answer before it is written."""

from typing import Any

import pytest

from services.gateway.answers.recorder import LONGEST_SOURCE, LONGEST_TURN, MOST_TURNS, AnswerRecorder
from services.gateway.settings import GatewaySettings
from shared.contracts.problems import Problem
from sluice.api.feedback import KeptAnswer
from sluice.api.queries import Source

pytestmark = pytest.mark.anyio

SECRET = "ines@harbour.example"


class Store:
    """Takes what is written."""

    def __init__(self) -> None:
        self.written: list[KeptAnswer] = []

    async def put(self, _: str, answer: KeptAnswer) -> None:
        self.written.append(answer)


async def written(redactor: Any, *answers: KeptAnswer) -> list[KeptAnswer]:
    store, recorder = Store(), AnswerRecorder(GatewaySettings(keep_answers=True, redactor=redactor))
    async with recorder.running(store):  # type: ignore[arg-type]
        for answer in answers:
            recorder.keep("acme", answer)
        await recorder.written()
    return store.written


async def test_no_half_of_what_the_redactor_takes_out_is_left_at_the_end_of_a_long_text() -> None:
    source, turn = (" " * (longest - 5) + SECRET + " x" * 50 for longest in (LONGEST_SOURCE, LONGEST_TURN))
    answer = KeptAnswer(
        id="0" * 23,
        answer="",
        sources=(Source(index=1, document="a", text=source),),
        messages=({"role": "user", "content": turn},) * (MOST_TURNS + 1),
    )
    (kept,) = await written("services.gateway.answers.redaction.contacts", answer)
    assert "ines" not in kept.model_dump_json()
    assert len(kept.sources[0].text) == LONGEST_SOURCE
    assert len(kept.messages) == MOST_TURNS


async def test_a_redactor_that_fails_keeps_its_own_answers_out_and_no_others() -> None:
    def fails(text: str) -> Any:
        return None if "void" in text else text

    answers = [KeptAnswer(id=f"{number:023}", question=text, answer="") for number, text in enumerate(("void", "full"))]
    assert [one.question for one in await written(fails, *answers)] == ["full"]
    recorder = AnswerRecorder(GatewaySettings(keep_answers=True, redactor=fails))
    assert await recorder.redacted("full") == "full"
    with pytest.raises(Problem, match="SLUICE_REDACTOR"):
        await recorder.redacted("void")
