"""Spreadsheets, OpenDocument, books, rich text and notebooks give their text; what is missing is said."""

import datetime
import io
import json

import docx
import pptx
import pytest
from docx.oxml import parse_xml
from PIL import Image
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from services.scheduler.ingestion.parsing import ParsedDocument, parse
from services.scheduler.ingestion.parsing.symbols import symbol
from shared.contracts.problems import Problem, ProblemType
from tests.harness.document_files import epub, ods, odt, xlsx

WORD = (
    'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
    'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
)


def picture() -> io.BytesIO:
    buffer = io.BytesIO()
    Image.new("L", (2, 2)).save(buffer, "png")
    buffer.seek(0)
    return buffer


def outline(document: ParsedDocument) -> list[tuple[tuple[str, ...], str]]:
    return [(section.heading, section.text) for section in document.sections]


def problem(name: str, data: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        parse(name, data)
    return caught.value


def saved(document) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def word(body: str) -> bytes:
    document = docx.Document()
    for block in parse_xml(f"<w:body {WORD}>{body}</w:body>"):
        document.element.body.insert(len(document.element.body) - 1, block)
    return saved(document)


def test_a_workbook_gives_a_section_a_sheet_with_named_values():
    data = xlsx(
        {
            "Halls": [["Hall report"], [], ["hall", "opened", "area"], ["North", datetime.date(2024, 5, 1), 12.5]],
            "Gates": [["gate", "open"], ["A", True], ["B", False]],
        }
    )
    document = parse("a.xlsx", data)
    assert outline(document) == [
        (("Halls",), "Hall report\n\nhall: North\nopened: 2024-05-01\narea: 12.5"),
        (("Gates",), "gate: A\nopen: true\n\ngate: B\nopen: false"),
    ]
    assert parse("upload", data).media_type == document.media_type


def test_tables_on_one_sheet_have_headers_of_their_own_and_blank_rows_end_none():
    rows = [["item", "count"], ["rope", 1], [], ["chain", 2], [], ["hall", "gate", "area"], ["North", "A", 9]]
    assert outline(parse("a.xlsx", xlsx({"S": rows})))[0][1] == (
        "item: rope\ncount: 1\n\nitem: chain\ncount: 2\n\nhall: North\ngate: A\narea: 9"
    )


def test_a_merged_cell_of_a_sheet_counts_in_each_row_and_is_said():
    data = xlsx({"S": [["hall", "gate"], ["", "A"], ["", "B"]]}, merged=[(1, 0, 2, 0, "North")])
    document = parse("a.xlsx", data)
    assert document.sections[0].text == "hall: North\ngate: A\n\nhall: North\ngate: B"
    assert [warning.kind for warning in document.warnings] == ["guessed-table"]


def test_open_document_spreadsheets_are_read_and_encrypted_ones_are_refused():
    document = parse("a.ods", ods([["item", "count"], ["rope", "3"]], sheet="Stock"))
    assert outline(document) == [(("Stock",), "item: rope\ncount: 3")]
    assert problem("a.ods", ods([["x"]], encrypted=True)).kind is ProblemType.ENCRYPTED_DOCUMENT


@pytest.mark.parametrize("name", ["a.xlsx", "a.ods", "a.xls"])
def test_what_is_no_spreadsheet_is_broken(name):
    assert problem(name, b"PK\x03\x04" + bytes(99)).kind is ProblemType.BROKEN_DOCUMENT


def test_open_document_text_gives_headings_lists_tables_and_notes():
    body = (
        "<text:tracked-changes><text:changed-region><text:p>gone</text:p></text:changed-region></text:tracked-changes>"
        '<text:h text:outline-level="1">Halls</text:h><text:p>Two<text:s text:c="2"/>halls<text:note><text:note-body>'
        "<text:p>A note.</text:p></text:note-body></text:note>.<office:annotation><text:p>why?</text:p>"
        '</office:annotation></text:p><text:h text:outline-level="2">Gates</text:h><text:list><text:list-item>'
        "<text:p>north</text:p></text:list-item></text:list><table:table><table:table-header-rows><table:table-row>"
        "<table:table-cell><text:p>gate</text:p></table:table-cell><table:table-cell><text:p>2024</text:p>"
        "</table:table-cell></table:table-row></table:table-header-rows><table:table-row><table:table-cell "
        'table:number-columns-repeated="2"><text:p>A</text:p></table:table-cell></table:table-row></table:table>'
        "<text:p><draw:frame><draw:image/></draw:frame></text:p>"
    )
    document = parse("a.odt", odt(body, title="Yard"))
    assert outline(document) == [
        (("Halls",), "Two  halls.\n\nA note."),
        (("Halls", "Gates"), "- north\n\ngate | 2024\n--- | ---\nA | A"),
    ]
    assert document.metadata == {"title": "Yard"}
    assert [warning.detail for warning in document.warnings] == [
        "1 picture is not read; text in pictures needs OCR first.",
        "1 comment is not read.",
    ]
    assert parse("upload", odt("<text:p>x</text:p>")).media_type == "application/vnd.oasis.opendocument.text"
    assert problem("a.odt", odt("<text:p>x</text:p>", encrypted=True)).kind is ProblemType.ENCRYPTED_DOCUMENT


def test_a_book_gives_its_chapters_in_reading_order_without_its_contents():
    document = parse("a.epub", epub({"2.xhtml": "<h1>Two</h1><p>second</p>", "1.xhtml": "<p>first</p>"}, title="Tales"))
    assert outline(document) == [(("Two",), "second"), ((), "first")]
    assert document.metadata == {"title": "Tales"}
    assert parse("upload", epub({"1.xhtml": "<p>x</p>"})).media_type == "application/epub+zip"
    assert problem("a.epub", epub({"1.xhtml": "x"}, encrypted="1.xhtml")).kind is ProblemType.ENCRYPTED_DOCUMENT
    assert problem("a.epub", epub({})).kind is ProblemType.EMPTY_DOCUMENT


def test_rich_text_gives_paragraphs_tables_and_a_title():
    source = (
        rb"{\rtf1\ansi{\fonttbl{\f0 Arial;}}{\info{\title Yard}}\f0 Caf\'e9 \u8364?5\par Second\par"
        rb"\trowd\cellx100\cellx200 hall\cell gate\cell\row\trowd\cellx100\cellx200 North\cell A\cell\row\pard end\par"
        rb"{\pict\pngblip " + b"89504e47" * 400 + rb"}}"
    )
    document = parse("a.rtf", source)
    assert outline(document) == [((), "Café €5\n\nSecond\n\nhall | gate\nNorth | A\n\nend")]
    assert document.metadata == {"title": "Yard"}
    assert [warning.kind for warning in document.warnings] == ["skipped-part"]
    assert parse("upload", source).media_type == "application/rtf"


def test_a_notebook_gives_its_cells_and_printed_results_without_pictures():
    cells = [
        {"cell_type": "markdown", "source": ["# Gates\n", "Two gates."]},
        {
            "cell_type": "code",
            "source": "show(gates)",
            "outputs": [
                {"output_type": "stream", "text": ["A\n", "B\n"]},
                {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo" * 99, "text/plain": "<Figure>"}},
                {"output_type": "execute_result", "data": {"text/plain": ["2"]}},
            ],
        },
        {"cell_type": "raw", "source": "raw words"},
    ]
    notebook = {"cells": cells, "metadata": {"language_info": {"name": "python"}}, "nbformat": 4}
    document = parse("a.ipynb", json.dumps(notebook).encode())
    assert outline(document) == [(("Gates",), "Two gates.\n\nshow(gates)\n\nA\nB\n\n2\n\nraw words")]
    assert document.metadata == {"title": "Gates", "language": "python"}
    assert [warning.kind for warning in document.warnings] == ["skipped-part"]
    for broken in (b"[]", b"{", b'{"cells": [1, {"source": 3}]}'):
        assert problem("a.ipynb", broken).kind in {ProblemType.BROKEN_DOCUMENT, ProblemType.EMPTY_DOCUMENT}


def test_word_keeps_hyphens_symbols_and_equations_and_moved_text_once():
    moved = "<w:r><w:t>Moved words.</w:t></w:r>"
    data = word(
        "<w:p><w:r><w:t>Part X</w:t><w:noBreakHyphen/><w:t>17 has 5</w:t></w:r>"
        '<w:r><w:sym w:font="Symbol" w:char="F0B0"/></w:r>'
        "<w:r><w:t> slope</w:t><w:softHyphen/><w:t>s.</w:t></w:r></w:p>"
        f"<w:p><w:moveFrom>{moved}</w:moveFrom></w:p><w:p><w:moveTo>{moved}</w:moveTo></w:p>"
        "<w:p><m:oMath><m:r><m:t>v=</m:t></m:r><m:f><m:num><m:r><m:t>s</m:t></m:r></m:num><m:den><m:r>"
        "<m:t>t+1</m:t></m:r></m:den></m:f><m:sSup><m:e><m:r><m:t>x</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup>"
        "</m:sSup></m:oMath></w:p>"
        '<w:p><w:r><w:sym w:font="Webdings" w:char="F021"/></w:r></w:p>'
    )
    document = parse("a.docx", data)
    assert document.sections[0].text == "Part X-17 has 5° slopes.\n\nMoved words.\n\nv=s/(t+1)x^2\n\n\ufffd"
    assert [warning.kind for warning in document.warnings] == ["unreadable-part"]


@pytest.mark.parametrize(
    ("font", "code", "character"),
    [
        ("Symbol", 0xF0B3, "≥"),
        ("Symbol", 0x61, "\N{GREEK SMALL LETTER ALPHA}"),
        ("Wingdings", 0xF0FC, "✓"),
        ("Arial", 0xE9, "é"),
        ("X", 0xF041, "\ufffd"),
    ],
)
def test_symbols_are_characters(font, code, character):
    assert symbol(font, code) == character


def test_slides_give_the_titles_categories_and_values_of_charts():
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[6])
    data = CategoryChartData()
    data.categories = ["north", "south"]
    data.add_series("visitors", (5, 7))
    data.add_series("gates", (1, None))
    chart = slide.shapes.add_chart(XL_CHART_TYPE.BAR_CLUSTERED, Inches(1), Inches(1), Inches(4), Inches(3), data).chart
    chart.has_title = True
    chart.chart_title.text_frame.text = "South is busier"
    slide.shapes.add_picture(picture(), Inches(1), Inches(1))
    document = parse("a.pptx", saved(deck))
    assert document.sections[0].text == ("South is busier\ncategory | visitors | gates\nnorth | 5 | 1\nsouth | 7 | -")
    assert [warning.detail for warning in document.warnings] == [
        "1 picture is not read; text in pictures needs OCR first."
    ]


@pytest.mark.parametrize(
    "source",
    [
        "<h3><button aria-expanded=false aria-controls=p>Asked?</button></h3><div id=p hidden><p>Answered.</p></div>",
        "<h3><button>Asked?</button></h3><div hidden=until-found><p>Answered.</p></div>",
        "<button role=tab>Asked?</button><div role=tabpanel hidden><p>Answered.</p></div>",
        "<a data-bs-target='#p'>Asked?</a><div id=p aria-hidden=true><p>Answered.</p></div>",
        "<details><summary>Asked?</summary><p>Answered.</p></details>",
    ],
)
def test_html_that_opens_when_it_is_asked_is_read(source):
    shown = " ".join(
        " ".join((*section.heading, section.text)) for section in parse("a.html", source.encode()).sections
    )
    assert "Asked?" in shown
    assert "Answered." in shown


def test_html_around_what_is_left_out_is_there_once():
    source = b"<p>one <script>x</script>two <button>Go</button>three <b hidden>y</b>four</p>"
    assert parse("a.html", source).sections[0].text == "one two three four"


def test_titles_have_no_signs_that_nobody_sees_but_joiners():
    title = parse("a.html", "<title>L\u0378a\ue000m\u200cp</title><p>words".encode()).metadata["title"]
    assert title == "Lam\u200cp"


@pytest.mark.parametrize("rule", ["---\n", "---  \n"])
def test_markdown_that_begins_with_a_rule_loses_nothing(rule):
    body = f"{rule}\nThe gate is shut at nine: use the bell.\n\n---\n\n# Bell\n\nIt is loud.\n"
    shown = " ".join(section.text for section in parse("a.md", body.encode()).sections)
    assert "The gate is shut at nine" in shown


def test_json_values_in_a_row_are_read_one_a_section():
    for gap in ("\n", " ", "\n\n"):
        document = parse("a.json", gap.join(json.dumps({"lamp": n}, indent=1) for n in range(3)).encode())
        assert [section.text for section in document.sections] == ["lamp: 0", "lamp: 1", "lamp: 2"]


def test_a_last_line_that_is_cut_off_is_said():
    document = parse("a.jsonl", b'{"lamp": 1}\n{"lamp": 2}\n{"la')
    assert [section.text for section in document.sections] == ["lamp: 1", "lamp: 2"]
    assert [(warning.kind, warning.detail) for warning in document.warnings] == [
        ("cut-off", "Line 3, the last one, is cut off and not read.")
    ]
    assert problem("a.jsonl", b'{"la').kind is ProblemType.BROKEN_DOCUMENT
