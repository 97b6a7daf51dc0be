"""What is damaged, encrypted, empty or made to do harm ends in the problem that says so."""

import gzip
import io
import json
import random
import zipfile

import docx
import pytest
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from services.scheduler.ingestion.parsing import archives, parse
from shared.contracts.problems import Problem, ProblemType

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)


def problem(name: str, data: bytes, media_type: str | None = None) -> Problem:
    with pytest.raises(Problem) as caught:
        parse(name, data, media_type)
    return caught.value


def text_or_kind(name: str, data: bytes) -> str | ProblemType:
    """The text of a document's first section, or the kind of problem that it has."""
    try:
        return parse(name, data).sections[0].text
    except Problem as found:
        return found.kind


def random_bytes(size: int = 20_000) -> bytes:
    return random.Random(1).randbytes(size)


def pdf(**settings) -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, **settings)
    canvas.drawString(72, 720, "Hello")
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def word(body: str = "") -> bytes:
    """A Word file whose main part is replaced by `body`, if it is given."""
    buffer, changed = io.BytesIO(), io.BytesIO()
    docx.Document().save(buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, body if body and name == "word/document.xml" else old.read(name))
    return changed.getvalue()


@pytest.mark.parametrize("suffix", ["txt", "md", "html", "pdf", "docx", "pptx", "csv", "json", "jsonl", "rst", "py"])
def test_a_document_without_bytes_is_empty(suffix):
    assert problem(f"a.{suffix}", b"").kind is ProblemType.EMPTY_DOCUMENT


@pytest.mark.parametrize("suffix", ["txt", "md", "html", "csv", "rst", "py", "jsonl"])
def test_a_document_of_blanks_is_empty(suffix):
    assert problem(f"a.{suffix}", b" \n\t\r\n  \n").kind is ProblemType.EMPTY_DOCUMENT


def test_html_that_shows_nothing_is_empty():
    assert problem("a.html", b"<script>run()</script><p> </p>").kind is ProblemType.EMPTY_DOCUMENT


def test_a_pdf_without_a_text_layer_says_that_ocr_is_needed():
    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    canvas.rect(10, 10, 50, 50)
    canvas.showPage()
    canvas.save()
    found = problem("scan.pdf", buffer.getvalue())
    assert found.kind is ProblemType.EMPTY_DOCUMENT
    assert "OCR" in found.detail


@pytest.mark.parametrize("name", ["a.bin", "a.txt", "README", "a.py", "a.md", "a.html", "photo.jpg", "a.csv", "a.json"])
def test_binary_data_is_unsupported_whatever_its_name(name):
    assert problem(name, random_bytes()).kind is ProblemType.UNSUPPORTED_DOCUMENT


@pytest.mark.parametrize("name", ["a.tar", "a.7z", "a.rar"])
def test_an_archive_that_is_no_zip_is_unsupported(name):
    assert problem(name, random_bytes()).kind is ProblemType.UNSUPPORTED_DOCUMENT


@pytest.mark.parametrize("suffix", ["pdf", "docx", "pptx"])
def test_random_bytes_with_a_known_suffix_are_broken(suffix):
    assert problem(f"a.{suffix}", random_bytes()).kind is ProblemType.BROKEN_DOCUMENT


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_a_truncated_pdf_is_read_or_reported_but_never_crashes(share):
    data = pdf()
    assert text_or_kind("a.pdf", data[: int(len(data) * share)]) in {
        "Hello",
        ProblemType.BROKEN_DOCUMENT,
        ProblemType.EMPTY_DOCUMENT,
    }


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_office_file_is_broken(share):
    data = word()
    assert problem("a.docx", data[: int(len(data) * share)]).kind is ProblemType.BROKEN_DOCUMENT


def test_an_office_file_with_a_broken_part_is_broken():
    assert problem("a.docx", word(body="<w:document")).kind is ProblemType.BROKEN_DOCUMENT


def test_a_pdf_with_a_password_is_encrypted():
    data = pdf(encrypt=StandardEncryption("secret", ownerPassword="owner"))
    assert problem("a.pdf", data).kind is ProblemType.ENCRYPTED_DOCUMENT


def test_an_encrypted_office_file_is_encrypted():
    data = OLE + "EncryptedPackage".encode("utf-16-le") + bytes(512)
    assert problem("a.docx", data).kind is ProblemType.ENCRYPTED_DOCUMENT


def test_an_old_office_file_is_unsupported_and_says_what_to_do():
    for name in ("a.doc", "a.docx"):
        found = problem(name, OLE)
        assert found.kind is ProblemType.UNSUPPORTED_DOCUMENT
        assert ".docx" in found.detail


def test_a_zip_bomb_is_refused_before_it_is_inflated():
    buffer = io.BytesIO(word())
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("word/bomb.xml", "w") as part:
        for _ in range(archives.MAX_INFLATED_OFFICE // 2**20 + 1):
            part.write(bytes(2**20))
    assert len(buffer.getvalue()) < 2**20
    assert problem("a.docx", buffer.getvalue()).kind is ProblemType.DOCUMENT_LIMIT


def test_a_gzip_bomb_is_refused_at_the_bound():
    bomb = gzip.compress(bytes(archives.MAX_INFLATED_TEXT + 1), compresslevel=1)
    assert problem("a.txt.gz", bomb).kind is ProblemType.DOCUMENT_LIMIT


def test_a_damaged_gzip_file_is_broken():
    packed = gzip.compress(b"some text " * 100)
    assert problem("a.txt.gz", packed[:-12]).kind is ProblemType.BROKEN_DOCUMENT
    assert problem("a.txt.gz", packed[:10] + b"\xff" * 30).kind is ProblemType.BROKEN_DOCUMENT


def test_entities_of_an_xml_bomb_are_not_expanded():
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    namespace = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    body = (
        f'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY e0 "boom">{entities}]>'
        f"<w:document {namespace}><w:body><w:p><w:r><w:t>safe &e9;</w:t></w:r></w:p></w:body></w:document>"
    )
    assert text_or_kind("a.docx", word(body=body)) in {"safe", ProblemType.BROKEN_DOCUMENT}


def test_restructured_text_reads_no_other_file(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("classified")
    markup = f"Words.\n\n.. include:: {secret}\n\n.. raw:: html\n   :file: {secret}\n\n"
    markup += f".. csv-table::\n   :file: {secret}\n"
    document = parse("a.rst", markup.encode())
    assert "classified" not in "".join(section.text for section in document.sections)


def test_a_name_is_never_opened(tmp_path):
    (tmp_path / "there.txt").write_text("on disk")
    document = parse(str(tmp_path / "there.txt"), b"from the upload")
    assert document.sections[0].text == "from the upload"
    for name in ("../../../etc/passwd", "/etc/passwd", "C:\\boot.ini", "a\0b.txt", "x" * 5000):
        assert parse(name, b"from the upload").sections[0].text == "from the upload"


def test_deeply_nested_json_is_flattened_or_reported_as_broken():
    assert problem("a.json", b"[" * 100_000).kind is ProblemType.BROKEN_DOCUMENT
    deep: object = "end"
    for _ in range(300):
        deep = {"k": [deep]}
    assert parse("a.json", json.dumps(deep).encode()).sections[0].text.endswith(": end")


def test_deeply_nested_html_is_read_or_reported_as_broken():
    assert parse("a.html", b"<div>" * 1000 + b"deep").sections[0].text == "deep"
    assert problem("a.html", b"<div>" * 100_000 + b"deep").kind is ProblemType.BROKEN_DOCUMENT


def test_deeply_nested_restructured_text_is_read_or_reported_as_broken():
    markup = "\n\n".join("  " * depth + "- x" for depth in range(400))
    found = text_or_kind("a.rst", markup.encode())
    assert found is ProblemType.BROKEN_DOCUMENT or str(found).count("x") == 400


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.html", "a.csv", "a.py"])
@pytest.mark.parametrize("unit", ["x", "word ", " ", "# ", "a,", "<b", "\t-\t"])
def test_one_line_of_ten_megabytes_is_read(name, unit):
    line = ("start " + unit * (10_000_000 // len(unit)) + " end").encode()
    assert "start" in parse(name, line).sections[0].text


def test_a_broken_json_line_is_named():
    assert "Line 3" in problem("a.jsonl", b'{"a": 1}\n\n{"a":\n').detail


def test_problems_do_not_leak_long_or_multiline_messages():
    found = problem("a.json", b'{"a": \n' + b"nonsense " * 1000)
    assert found.kind is ProblemType.BROKEN_DOCUMENT
    assert len(found.detail) < 300
    assert "\n" not in found.detail


def test_problems_show_no_control_characters():
    data = pdf()
    at = data.index(b"stream\n", data.index(b"ASCII85Decode")) + 12
    found = problem("a.pdf", data[:at] + b"\x18" + data[at + 1 :])
    assert found.detail == "It cannot be read as application/pdf: Non-Ascii85 digit found: \N{REPLACEMENT CHARACTER}"
