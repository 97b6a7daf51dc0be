"""Documents: whatever bytes come in, chunks come out or a clear problem, soon, and the reader goes on."""

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal
from hypothesis import given

from services.scheduler.ingestion.reader.reader import ChunkedDocument, DocumentReader
from shared.contracts.problems import Problem, ProblemType
from tests.fuzz.documents import FILES, PACKED, files
from tests.fuzz.hypothesis_runner import example_began, fuzzed, outcome, saw

CLEAR = frozenset(
    {
        ProblemType.UNSUPPORTED_DOCUMENT,
        ProblemType.BROKEN_DOCUMENT,
        ProblemType.ENCRYPTED_DOCUMENT,
        ProblemType.EMPTY_DOCUMENT,
        ProblemType.DOCUMENT_LIMIT,
    }
)
File = tuple[str, bytes, str | None]
KINDS = {
    "pdf": tuple(name for name in FILES if name.endswith(".pdf")),
    "office": ("a.docx", "a.pptx"),
    "packed": tuple(name for name in FILES if name.endswith(PACKED) and name not in ("a.docx", "a.pptx")),
    "mail": ("a.eml", "a.msg"),
    "markup": ("a.html", "a.md", "a.rst"),
    "plain": tuple(
        name for name in FILES if not name.endswith((*PACKED, ".pdf", ".html", ".md", ".rst", ".eml", ".msg"))
    ),
}
JOINERS = dict.fromkeys(map(ord, "\u200c\u200d"))
SECONDS = 20.0
"""More than any of these small files may take: one that does is told as a document that goes beyond its limit."""


@pytest.fixture(scope="module")
def reader(portal: BlockingPortal) -> Iterator[DocumentReader]:
    """The real pool of reading processes."""
    made = DocumentReader(workers=1, time_limit_s=SECONDS, memory_limit_bytes=512 * 2**20, documents_per_worker=10_000)
    with portal.wrap_async_context_manager(made) as reader:
        yield reader


def check(portal: BlockingPortal, reader: DocumentReader, name: str, data: bytes, media_type: str | None) -> None:
    found = outcome(lambda: portal.call(reader.read, name, data, media_type), Problem)
    if isinstance(found, Problem):
        saw(found.kind.code)
        assert found.kind in CLEAR
        assert "crashed" not in found.detail
        assert "took longer" not in found.detail
        assert len(found.detail) < 400
        assert found.detail.isprintable()
        return
    saw(found.media_type)
    check_document(found)


def check_document(document: ChunkedDocument) -> None:
    assert document.chunks
    assert [chunk.position for chunk in document.chunks] == list(range(len(document.chunks)))
    for chunk in document.chunks:
        assert chunk.text.strip()
        chunk.text.encode()
        assert not any(unicodedata.category(c) == "Cc" for c in chunk.text if c not in "\t\n")
        assert chunk.page is None or chunk.page > 0
    for value in document.metadata.values():
        assert isinstance(value, int) or (value.translate(JOINERS).isprintable() and len(value) <= 500)
    json.dumps(dict(document.metadata)).encode()
    for warning in document.warnings:
        assert warning.detail.isprintable()
        assert len(warning.detail) < 400
    assert "root:x:0:0" not in "".join(chunk.text for chunk in document.chunks), "no other file is read"


@pytest.mark.parametrize("name", FILES)
def test_the_files_that_are_damaged_can_be_read_before(
    portal: BlockingPortal, reader: DocumentReader, name: str
) -> None:
    check_document(portal.call(reader.read, name, FILES[name]))


@fuzzed(40)
@given(file=files(KINDS["pdf"]))
def test_any_pdf_is_read_or_has_a_clear_problem(portal: BlockingPortal, reader: DocumentReader, file: File) -> None:
    example_began()
    check(portal, reader, *file)


@fuzzed(40)
@given(file=files(KINDS["office"]))
def test_any_office_file_is_read_or_has_a_clear_problem(
    portal: BlockingPortal, reader: DocumentReader, file: File
) -> None:
    example_began()
    check(portal, reader, *file)


@fuzzed(48)
@given(file=files(KINDS["packed"]))
def test_any_package_is_read_or_has_a_clear_problem(portal: BlockingPortal, reader: DocumentReader, file: File) -> None:
    example_began()
    check(portal, reader, *file)


@fuzzed(40)
@given(file=files(KINDS["mail"]))
def test_any_mail_is_read_or_has_a_clear_problem(portal: BlockingPortal, reader: DocumentReader, file: File) -> None:
    example_began()
    check(portal, reader, *file)


@fuzzed(48)
@given(file=files(KINDS["markup"]))
def test_any_markup_is_read_or_has_a_clear_problem(portal: BlockingPortal, reader: DocumentReader, file: File) -> None:
    example_began()
    check(portal, reader, *file)


@fuzzed(48)
@given(file=files(KINDS["plain"]))
def test_any_other_file_is_read_or_has_a_clear_problem(
    portal: BlockingPortal, reader: DocumentReader, file: File
) -> None:
    example_began()
    check(portal, reader, *file)


def test_the_kinds_are_all_files() -> None:
    assert sorted(name for names in KINDS.values() for name in names) == sorted(FILES)
    assert all(Path(name).name == name for name in FILES)
