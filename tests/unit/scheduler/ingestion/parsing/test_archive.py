"""An archive is the documents in it, within bounds."""

import io
import zipfile

import pytest

from services.scheduler.ingestion.parsing import parse, parts
from services.scheduler.ingestion.parsing import zip as zip_format
from shared.contracts.problems import Problem, ProblemType
from tests.harness.document_files import xlsx, zipped


def problem(name: str, data: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        parse(name, data)
    return caught.value


def test_each_member_is_a_document_under_its_name():
    data = zipped(
        {
            "halls/north.md": "# Gates\n\nTwo gates.",
            "halls/stock.xlsx": xlsx({"Stock": [["item", "count"], ["rope", 3]]}),
            "inner.zip": zipped({"deep.txt": "Deep words."}),
            "notes/": b"",
        }
    )
    document = parse("a.zip", data)
    assert document.media_type == "application/zip"
    assert [(section.heading, section.text) for section in document.sections] == [
        (("halls/north.md", "Gates"), "Two gates."),
        (("halls/stock.xlsx", "Stock"), "item: rope\ncount: 3"),
        (("inner.zip", "deep.txt"), "Deep words."),
    ]
    assert document.warnings == ()


def test_what_cannot_be_read_is_said_and_hidden_files_are_left_out():
    document = parse(
        "a.zip", zipped({"a.txt": "words", "b.png": b"\x89PNG\0", ".git/c.txt": "x", "__MACOSX/d.txt": "x"})
    )
    assert [section.heading for section in document.sections] == [("a.txt",)]
    assert [warning.detail for warning in document.warnings] == [
        "b.png is not read: Documents of this kind (.png) are not text."
    ]


def test_an_archive_of_nothing_readable_is_empty_and_says_why():
    found = problem("a.zip", zipped({"b.png": b"\x89PNG\0"}))
    assert found.kind is ProblemType.EMPTY_DOCUMENT
    assert "b.png" in found.detail


def test_an_archive_is_known_by_its_bytes():
    assert parse("upload", zipped({"a.txt": "words"})).media_type == "application/zip"


def test_names_in_utf8_that_do_not_say_so_are_read_as_utf8():
    data = zipped({"tür.txt": "words"}).replace("tür".encode(), "tür".encode())
    unflagged = bytearray(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.infolist()[0].flag_bits & 0x800
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        unflagged[data.index(mark) + at + 1] &= ~0x08
    assert parse("a.zip", bytes(unflagged)).sections[0].heading == ("tür.txt",)


def test_a_member_that_inflates_without_end_is_refused_before_it_is_inflated():
    found = problem("a.zip", zipped({"zeros.txt": bytes(zip_format.HARMLESS_BYTES + 1)}))
    assert found.kind is ProblemType.DOCUMENT_LIMIT
    assert "times its size" in found.detail


def test_members_that_lie_about_their_size_give_no_more_than_they_say():
    data = bytearray(zipped({"a.txt": bytes(100_000)}))
    for mark, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.index(mark) + at
        data[place : place + 4] = (10).to_bytes(4, "little")
    assert problem("a.zip", bytes(data)).kind is ProblemType.EMPTY_DOCUMENT


def test_archives_within_archives_end_somewhere():
    data = zipped({"a.txt": "words"})
    for _ in range(parts.MAX_DEPTH - 1):
        data = zipped({"a.zip": data})
    assert parse("a.zip", data).sections[0].text == "words"
    assert problem("a.zip", zipped({"a.zip": data})).kind is ProblemType.DOCUMENT_LIMIT


def test_the_members_of_all_levels_count_together(monkeypatch):
    monkeypatch.setattr(parts, "MAX_PARTS", 3)
    inner = zipped({f"{n}.txt": "words" for n in range(2)})
    monkeypatch.setattr(
        parts._Left, "__init__", lambda left: (setattr(left, "parts", 3), setattr(left, "size", 10**9))[0]
    )
    assert problem("a.zip", zipped({"a.zip": inner, "b.zip": inner})).kind is ProblemType.DOCUMENT_LIMIT


def test_an_encrypted_archive_is_encrypted_and_an_encrypted_member_is_said():
    locked = bytearray(zipped({"a.txt": "words"}))
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    assert problem("a.zip", bytes(locked)).kind is ProblemType.ENCRYPTED_DOCUMENT
    document = parse("a.zip", zipped({"in.zip": bytes(locked), "b.txt": "words"}))
    assert "password" in document.warnings[0].detail


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_truncated_archive_is_broken(share):
    data = zipped({"a.txt": "words " * 200})
    assert problem("a.zip", data[: int(len(data) * share)]).kind is ProblemType.BROKEN_DOCUMENT
