"""Every supported format gives its text, in order, under its headings."""

import gzip
import io
import json
import pkgutil

import docx
import pptx
import pytest
from docx.oxml import parse_xml
from pptx.util import Inches
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from services.scheduler.ingestion.parsing import BUILT_IN, Format, Formats, ParsedDocument, Section, parse


def pdf(*pages: str, password: str | None = None, title: str = "", owner_only: bool = False) -> bytes:
    buffer = io.BytesIO()
    encryption = StandardEncryption(password or "", ownerPassword="owner") if password or owner_only else None
    canvas = Canvas(buffer, encrypt=encryption)
    canvas.setTitle(title)
    for page in pages:
        for row, line in enumerate(page.split("\n")):
            canvas.drawString(72, 720 - 14 * row, line)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def saved(document) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def outline(document: ParsedDocument) -> list[tuple[tuple[str, ...], str]]:
    return [(section.heading, section.text) for section in document.sections]


def text(document: ParsedDocument) -> str:
    return "\n\n".join(section.text for section in document.sections)


def test_every_built_in_format_names_a_parser_that_exists():
    assert all(callable(pkgutil.resolve_name(form.parser)) for form in BUILT_IN)


def test_no_suffix_belongs_to_two_built_in_formats():
    suffixes = [suffix for form in BUILT_IN for suffix in form.suffixes]
    assert len(suffixes) == len(set(suffixes))


def test_plain_text_is_one_section_as_it_is():
    document = parse("notes.txt", b"First line\nsecond line\n\nNew paragraph\n")
    assert document.media_type == "text/plain"
    assert document.sections == (Section(text="First line\nsecond line\n\nNew paragraph"),)


@pytest.mark.parametrize("name", ["README", "LICENSE", "a.unknown", "tool.xyz", "dir/NEWS", "..", "", "a\\b"])
def test_text_of_an_unknown_kind_is_read_as_plain_text(name):
    assert parse(name, b"Some words.\n").media_type == "text/plain"


@pytest.mark.parametrize(
    ("name", "language"),
    [("a.py", "python"), ("b.RS", "rust"), ("ls.1", "roff"), ("src/Dockerfile", "dockerfile"), ("x.yml", "yaml")],
)
def test_source_code_is_text_with_its_language(name, language):
    document = parse(name, b"line one\n    line two\n")
    assert document.metadata == {"language": language}
    assert document.sections[0].text == "line one\n    line two"


def test_the_suffix_wins_over_the_media_type_and_the_media_type_over_the_bytes():
    assert parse("a.md", b"# T\n\nx", "application/octet-stream").media_type == "text/markdown"
    assert parse("a", b"# T\n\nx", "text/markdown; charset=utf-8").media_type == "text/markdown"
    assert parse("a", b"<!DOCTYPE html><p>x</p>").media_type == "text/html"
    assert parse("upload", pdf("Hello")).media_type == "application/pdf"
    assert parse("a.pdf", pdf("Hello"), "text/plain").media_type == "application/pdf"


def test_gzip_is_inflated_and_its_inner_name_counts():
    document = parse("changelog.md.gz", gzip.compress(b"# One\n\nfirst") + gzip.compress(b"\n\nsecond"))
    assert outline(document) == [(("One",), "first\n\nsecond")]


def test_markdown_headings_are_the_path_and_the_rest_stays_as_written():
    source = (
        b"---\ntitle: 'The guide'\ntags: [a]\n---\nIntro *text*.\n\n# One\n\n```\n# no heading\n```\n\n"
        b"Two\n---\n\nunder two\n\n### Three ###\n\n## Empty\n\n# Four\nlast\n"
    )
    document = parse("guide.md", source)
    assert document.metadata == {"title": "The guide"}
    assert outline(document) == [
        ((), "Intro *text*."),
        (("One",), "```\n# no heading\n```"),
        (("One", "Two"), "under two"),
        (("One", "Two"), "Three"),
        (("One",), "Empty"),
        (("Four",), "last"),
    ]


def test_a_markdown_rule_or_table_is_no_heading():
    document = parse("a.md", b"a\n\n---\n\n| x | y |\n|---|---|\n| 1 | 2 |\n\n- item\n---\n")
    assert [heading for heading, _ in outline(document)] == [()]


def test_restructured_text_gives_headings_lists_tables_and_code():
    source = b"""
Guide
=====

Intro with :ref:`a label <target>` and ``code``.

Setup
-----

- first
- second

.. code-block:: python

   print("hi")

.. versionadded:: 3.2
   It is new.

.. frobnicate:: x

   unknown content

=====  =====
Name   Size
=====  =====
a      1
=====  =====
"""
    document = parse("guide.rst", source)
    assert document.metadata["title"] == "Guide"
    assert outline(document)[0] == (("Guide",), "Intro with a label and code.")
    heading, body = outline(document)[1]
    assert heading == ("Guide", "Setup")
    for part in ("- first", 'print("hi")', "3.2", "It is new.", "unknown content", "Name | Size\na | 1"):
        assert part in body


def test_html_gives_what_a_reader_reads():
    source = b"""<html><head><title> The page </title><style>p{}</style></head><body>
      <nav><a href=/>Home</a></nav><h1>Top<a class=headerlink href=#>\xc2\xb6</a></h1>
      <p>One <b>bold</b>\n word.</p><script>var x = "no";</script>
      <h2>Data</h2><table><tr><th>Name<th>Size</tr><tr><td><p>a</p><td>1</table>
      <ul><li>first<li>second</ul><pre>def f():\n    return 1</pre>
      <p hidden>secret</p><form><input value=v><button>Go</button></form><footer>(c)</footer></body></html>"""
    document = parse("page.html", source)
    assert document.metadata == {"title": "The page"}
    assert outline(document) == [
        (("Top",), "One bold word."),
        (
            ("Top", "Data"),
            "Name | Size\na | 1\n\n- first\n- second\n\ndef f():\n    return 1",
        ),
    ]


def test_html_with_a_main_element_is_read_from_there():
    words = "word " * 60
    document = parse("a.html", f"<div>menu</div><main><h1>T</h1><p>{words}</p></main><div>ads</div>".encode())
    assert outline(document) == [(("T",), words.strip())]


def test_html_in_a_declared_encoding_is_decoded_by_it():
    source = '<meta charset="windows-1251"><p>Привет, мир</p>'.encode("cp1251")
    assert text(parse("a.html", source)) == "Привет, мир"


def test_an_xhtml_declaration_does_no_harm():
    source = b"<?xml version='1.0' encoding='utf-8'?><html><body><p>caf\xc3\xa9</p></body></html>"
    assert text(parse("a.xhtml", source)) == "café"


def test_pdf_pages_are_sections_with_page_numbers():
    document = parse("a.pdf", pdf("First page", "", "Third page", title="Report"))
    assert [(section.page, section.text) for section in document.sections] == [(1, "First page"), (3, "Third page")]
    assert document.metadata == {"title": "Report", "pages": 3, "author": "anonymous"}


def test_a_pdf_that_only_restricts_printing_is_read():
    assert text(parse("a.pdf", pdf("Readable", owner_only=True))) == "Readable"


def test_word_documents_give_headings_lists_tables_and_core_properties():
    document = docx.Document()
    document.core_properties.title = "Handbook"
    document.core_properties.author = "Ada"
    document.add_paragraph("Before any heading")
    document.add_heading("Chapter", level=1)
    document.add_paragraph("First").add_run(" bold").bold = True
    document.add_paragraph("item", style="List Bullet")
    document.add_heading("Part", level=2)
    table = document.add_table(rows=2, cols=2)
    for index, cell in enumerate(cell for row in table.rows for cell in row.cells):
        cell.text = f"c{index}"
    parsed = parse("a.docx", saved(document))
    assert parsed.metadata == {"title": "Handbook", "author": "Ada"}
    assert outline(parsed) == [
        ((), "Before any heading"),
        (("Chapter",), "First bold\n\nitem"),
        (("Chapter", "Part"), "c0 | c1\nc2 | c3"),
    ]


def test_word_documents_give_text_boxes_content_controls_insertions_and_nested_tables():
    word = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    compatibility = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    box = "<w:txbxContent><w:p><w:r><w:t>boxed</w:t></w:r></w:p></w:txbxContent>"
    blocks = (
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>controlled</w:t></w:r></w:p></w:sdtContent></w:sdt>",
        "<w:p><w:r><w:t>kept </w:t></w:r><w:ins><w:r><w:t>new</w:t></w:r></w:ins>"
        "<w:del><w:r><w:delText>old</w:delText></w:r></w:del></w:p>",
        f"<w:p><w:r><w:t>host</w:t></w:r><w:r><mc:AlternateContent><mc:Choice>{box}</mc:Choice>"
        f"<mc:Fallback>{box}</mc:Fallback></mc:AlternateContent></w:r></w:p>",
        "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>outer</w:t></w:r></w:p>"
        "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>inner</w:t></w:r></w:p></w:tc></w:tr></w:tbl></w:tc>"
        "<w:tc><w:p><w:r><w:t>right</w:t></w:r></w:p></w:tc></w:tr></w:tbl>",
    )
    document = docx.Document()
    body = document.element.body
    for block in parse_xml(f"<w:body {word} {compatibility}>{''.join(blocks)}</w:body>"):
        body.insert(len(body) - 1, block)
    assert text(parse("a.docx", saved(document))) == ("controlled\n\nkept new\n\nhost\n\nboxed\n\nouter inner | right")


def test_presentations_give_a_section_a_slide_with_tables_and_notes():
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text = "Results"
    slide.shapes.add_textbox(Inches(1), Inches(1), Inches(3), Inches(1)).text_frame.text = "Up by 5%"
    table = slide.shapes.add_table(1, 2, Inches(1), Inches(3), Inches(3), Inches(1)).table
    table.cell(0, 0).text, table.cell(0, 1).text = "Q1", "10"
    slide.notes_slide.notes_text_frame.text = "Say thanks"
    deck.slides.add_slide(deck.slide_layouts[5]).shapes.title.text = "The end"
    parsed = parse("a.pptx", saved(deck))
    assert [(section.page, section.heading, section.text) for section in parsed.sections] == [
        (1, ("Results",), "Up by 5%\n\nQ1 | 10\n\nSay thanks"),
        (2, (), "The end"),
    ]


@pytest.mark.parametrize(("delimiter", "suffix"), [(",", "csv"), (";", "csv"), ("\t", "csv"), ("\t", "tsv")])
def test_table_rows_carry_their_column_names(delimiter, suffix):
    rows = [["name", "note"], ["Ada", '"two\nlines"'], ["Bob", ""]]
    source = "\n".join(delimiter.join(row) for row in rows).encode()
    assert text(parse(f"a.{suffix}", source)) == "name: Ada\nnote: two lines\n\nname: Bob"


def test_a_table_without_a_header_numbers_its_columns():
    assert text(parse("a.csv", b"1,2\n3,4\n")) == "column 1: 1\ncolumn 2: 2\n\ncolumn 1: 3\ncolumn 2: 4"


def test_json_is_flattened_to_paths_with_a_section_per_element_of_a_list():
    value = [{"a": {"b": [1, 2]}, "n": None, "ok": True}, {"items": [{"x": "one"}, {"x": "two"}]}]
    document = parse("a.json", json.dumps(value).encode())
    assert [section.text for section in document.sections] == [
        "a.b: 1, 2\nok: true",
        "items[0].x: one\n\nitems[1].x: two",
    ]


def test_json_lines_give_a_section_a_line():
    document = parse("a.jsonl", b'{"q": "one"}\n\n"two"\r\n')
    assert [section.text for section in document.sections] == ["q: one", "two"]


def test_a_format_of_ones_own_wins_over_a_built_in_one():
    form = Format(
        media_type="text/x-own", suffixes=(".txt",), parser="services.scheduler.ingestion.parsing.markdown:parse"
    )
    document = Formats((*BUILT_IN, form)).parse("a.txt", b"# T\n\nx")
    assert (document.media_type, outline(document)) == ("text/x-own", [(("T",), "x")])
