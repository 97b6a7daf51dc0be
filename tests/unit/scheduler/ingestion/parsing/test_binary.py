"""What is not text is not indexed, and said."""

import base64
import binascii
import random

import pytest

from services.scheduler.ingestion.parsing import parse
from services.scheduler.ingestion.parsing.binary import without_binary

NOISE = random.Random(7).randbytes(3_000)
ENCODED = base64.b64encode(NOISE).decode()


def lines(text: str, width: int) -> str:
    return "\n".join(text[at : at + width] for at in range(0, len(text), width))


@pytest.mark.parametrize(
    "data",
    [
        f"data:image/png;base64,{ENCODED}",
        "data:;base64,AAAA",
        ENCODED,
        base64.urlsafe_b64encode(NOISE).decode(),
        base64.b64encode(bytes(900) + NOISE).decode(),
        NOISE[:400].hex(),
        lines(ENCODED, 64),
        lines(ENCODED, 76),
        "begin 644 lamp.bin\n"
        + "".join(binascii.b2a_uu(NOISE[at : at + 45]).decode() for at in range(0, len(NOISE), 45))
        + "`\nend",
    ],
    ids=["uri", "short-uri", "base64", "base64url", "zeros-first", "hex", "pem", "mime", "uu"],
)
def test_encoded_data_is_left_out_of_the_text(data):
    text, found = without_binary(f"Before it.\n\n{data}\n\nAfter it.")
    assert (text, found) == ("Before it.\n\n…\n\nAfter it.", 1)


@pytest.mark.parametrize(
    "text",
    [
        "Donaudampfschifffahrtsgesellschaft" * 20,
        "ACGT" * 200,
        "/srv/halls/north/gates/of/the/yard" * 20,
        "x" * 5_000,
        "=" * 80 + "\n",
        "会議の資料" * 200,
        "0123456789" * 50,
        "\n".join(["thequickbrownfoxjumpsoverthelazydogthequickbrownfoxjumpsoverthelaz"] * 9),
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ],
)
def test_words_of_any_length_stay(text):
    assert without_binary(text) == (text, 0)


def test_pictures_within_markdown_are_said_and_the_text_around_them_stays():
    document = parse(
        "a.md", f"# Lamp\n\nThe lamp is blue.\n\n![drawing](data:image/png;base64,{ENCODED})\n\nEnd.".encode()
    )
    assert [section.text for section in document.sections] == ["The lamp is blue.\n\n![drawing](…)\n\nEnd."]
    assert [(warning.kind, warning.detail) for warning in document.warnings] == [
        ("binary-data", "1 run of encoded binary data is left out.")
    ]


def test_encoded_values_of_records_are_left_out():
    assert parse("a.json", f'{{"name": "lamp", "picture": "{ENCODED}"}}'.encode()).sections[0].text.endswith("…")
