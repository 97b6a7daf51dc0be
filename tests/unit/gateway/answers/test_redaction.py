"""What the built-in redactor takes out, and of which texts."""

from typing import Any

import pytest

from services.gateway.answers.redaction import contacts, redact
from services.gateway.settings import GatewaySettings
from sluice.api.feedback import KeptAnswer
from sluice.api.queries import Searched, SentenceSupport, Source, SourceCopy, SourceNeighbour


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Mail a.b+c@mail.example.org.", "Mail [email]."),
        ("Call +49 (170) 123-45-67 today", "Call [number] today"),
        ("Card 4111 1111 1111 1111", "Card [number]"),
        ("DE89 3704 0044 0532 0130 00 is hers", "[iban] is hers"),
        ("ERR-4032 on 2026-11-30 in v2.14.1, order 12345", "ERR-4032 on 2026-11-30 in v2.14.1, order 12345"),
        ("", ""),
    ],
)
def test_contacts_go_and_the_rest_stays(text: str, left: str) -> None:
    assert contacts(text) == left


def test_contacts_takes_no_longer_for_hostile_texts() -> None:
    for piece in ("a@", "1 ", "AB12 ", "a.", "@a."):
        contacts(piece * 20_000)


def test_no_text_of_an_answer_is_left_out() -> None:
    secret = "ines@harbour.example"
    answer = KeptAnswer(
        id="0" * 23,
        question=secret,
        answer=secret,
        messages=({"role": "user", "content": secret, "name": secret},),
        sources=(
            Source(
                index=1,
                document=secret,
                text=secret,
                metadata={"author": secret},
                copies=(SourceCopy(document=secret),),
                context=(SourceNeighbour(position=2, text=secret),),
            ),
        ),
        supported=(SentenceSupport(sentence=secret),),
        searched=Searched(question=secret),
    )
    assert secret not in redact(answer, contacts).model_dump_json()


async def _later(text: str) -> str:
    return text


@pytest.mark.parametrize(
    "redactor",
    [lambda _: None, str.encode, len, lambda text: f"{text}\ud800", _later],
    ids=["nothing", "bytes", "number", "half a character", "coroutine"],
)
@pytest.mark.filterwarnings("ignore:coroutine")
def test_what_is_no_text_is_never_kept(redactor: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        redact(KeptAnswer(id="0" * 23, question="Who?", answer="Ines"), redactor)


def test_an_empty_variable_names_no_redactor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_REDACTOR", "")
    assert GatewaySettings().redactor is None
