"""A row of a table is understood on its own: it has the names of its columns, and its key."""

import io

import docx
import pptx
import pytest
from docx.oxml import OxmlElement
from pptx.util import Inches

from services.scheduler.ingestion.chunking.chunker import Chunker
from services.scheduler.ingestion.parsing import parse
from services.scheduler.ingestion.parsing.columns import find_names, find_shape, named
from services.scheduler.ingestion.parsing.rows import LONGEST_RECORD, fill_spans, record, table_text


def text(name: str, data: bytes | str) -> str:
    document = parse(name, data.encode() if isinstance(data, str) else data)
    return "\n\n".join(section.text for section in document.sections)


def saved(document) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([["pump", "bar"], ["A", "3"]], ["pump", "bar"]),
        ([["", "pump", "bar"], ["0", "A", "3"], ["1", "B", "4"]], ["", "pump", "bar"]),
        ([["hall", "2024", "2025"], ["North", "5", "6"], ["South", "7", "8"]], ["hall", "2024", "2025"]),
        ([["name", "fax", "fax"], ["Front desk", "10", "11"]], ["name", "fax", "fax"]),
        ([["1", "2"], ["3", "4"]], None),
        ([["Oslo", "12", "13"], ["Bergen", "14", "15"]], None),
        ([["red", "blue", "blue"], ["green", "red", "blue"]], None),
        ([["", "", "", "x"], ["1", "2", "3", "4"]], None),
        ([], None),
    ],
)
def test_the_first_row_is_a_header_where_words_stand_over_data(rows, names):
    assert find_names(rows) == names


def test_names_of_columns_are_distinct_and_never_empty():
    assert named(["", "fax", "fax"], 4) == ["column 1", "fax", "fax (2)", "column 4"]


def test_titles_above_a_table_are_not_its_header():
    rows = [["Hall report"], ["As of May"], ["item", "hall"], ["rope", "H1"], ["chain", "H2"]]
    assert find_shape(rows).start == 2
    padded = [["Hall report", "", ""], ["item", "hall", "count"], ["rope", "H1", "4"]]
    assert find_shape(padded).names == ["item", "hall", "count"]


def test_a_table_that_names_no_column_of_row_names_has_one_more():
    assert text("a.csv", 'mass,length\n"mouse",20,9\n"vole",31,11\n').startswith("column 1: mouse\nmass: 20\nlength: 9")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_line_that_tells_excel_the_delimiter_tells_it_here_too(end):
    assert text("a.csv", f"sep=;{end}ware;price{end}plum;2,75{end}") == "ware: plum\nprice: 2,75"


def test_decimal_commas_do_not_make_commas_the_delimiter():
    source = "Hall list\nWinter\n\nware;price\nplum;2,75\npear;1,20\n"
    assert text("a.csv", source) == "Hall list\nWinter\n\nware: plum\nprice: 2,75\n\nware: pear\nprice: 1,20"


def test_quotes_that_are_inches_end_no_field_and_begin_none():
    source = 'part\tbore\nhose\t3" wide\npipe\t"4\nvalve\t2\n'
    assert text("a.tsv", source).endswith('part: pipe\nbore: "4\n\npart: valve\nbore: 2')


def test_quotes_that_hold_line_ends_stay_quotes():
    assert (
        text("a.csv", 'part,note\nhose,"one\ntwo"\npipe,three\n')
        == "part: hose\nnote: one two\n\npart: pipe\nnote: three"
    )


def test_a_row_longer_than_a_chunk_repeats_its_key_and_its_column():
    answer = " ".join(f"Step {n} turns the red wheel once more." for n in range(60))
    body = text("a.csv", f"id,topic,answer\n7,Wheels,{answer}\n8,Doors,Shut them.\n")
    paragraphs = body.split("\n\n")
    assert len(paragraphs) > 3
    assert all(part.startswith("topic: Wheels\n") for part in paragraphs[:-1])
    assert all("answer: " in part for part in paragraphs)
    assert max(map(len, paragraphs)) < 2 * LONGEST_RECORD
    assert all(f"Step {n} turns" in body for n in range(60))


def test_every_chunk_of_a_table_of_long_rows_has_the_key():
    rows = [(f"Gate {n}", " ".join([f"Gate {n} opens to the yard, and stays open until dusk."] * 30)) for n in range(3)]
    sections = parse(
        "a.csv", ("gate,use\n" + "\n".join(map(",".join, rows)).replace(", and", " and")).encode()
    ).sections
    for chunk in Chunker().chunk(sections):
        assert "gate: Gate" in chunk.text
        assert "use: " in chunk.text


def test_records_of_many_columns_are_cut_between_columns():
    names = [f"value of column {n}" for n in range(60)]
    paragraphs = record(names, ["valve 7", *["open"] * 59]).split("\n\n")
    assert all(part.startswith("value of column 0: valve 7") for part in paragraphs)


def test_a_table_with_a_short_header_is_lines_and_an_empty_cell_keeps_its_place():
    assert table_text([["pump", "bar", "hall"], ["A", "", "H1"], ["B", "4", ""]]) == (
        "pump | bar | hall\nA | - | H1\nB | 4 | -"
    )


def test_a_header_that_looks_like_data_has_a_rule_below_it():
    assert table_text([["hall", "2024"], ["North", "5"]]) == "hall | 2024\n--- | ---\nNorth | 5"
    assert table_text([["1", "2"], ["3", "4"]], header_rows=1) == "1 | 2\n--- | ---\n3 | 4"
    assert table_text([["1", "2"], ["3", "4"]]) == "1 | 2\n3 | 4"


def test_a_table_with_a_wide_header_becomes_records():
    names = [f"a long name of column {n}" for n in range(9)]
    assert table_text([names, ["x"] * 9]).startswith("a long name of column 0: x\na long name of column 1: x")


def test_bars_within_cells_are_no_cells():
    assert table_text([["sign", "use"], ["a|b", "or"]]) == "sign | use\na\\|b | or"


def test_a_merged_cell_counts_in_each_row_that_it_covers():
    rows = [[("hall", 1, 1), ("gate", 1, 1)], [("North", 1, 2), ("A", 1, 1)], [("B", 1, 1)], [("South", 2, 1)]]
    assert fill_spans(rows) == [["hall", "gate"], ["North", "A"], ["North", "B"], ["South", ""]]
    assert fill_spans([[("hall", 1, 2), ("gates", 2, 1)], [("in", 1, 1), ("out", 1, 1)]], 2) == [
        ["hall", "gates", "gates"],
        ["hall", "in", "out"],
    ]


def test_a_table_of_huge_spans_costs_no_memory():
    rows = [[("x", 1_000, 60_000)] * 50] * 1_000
    assert fill_spans(rows) == [["x"] * 50] * 1_000


def test_html_tables_have_one_header_of_all_header_rows_and_filled_spans():
    source = """<table><caption>Gates</caption><thead><tr><th rowspan=2>Hall<th colspan=2>Visitors<tr><th>2024<th>2025
      </thead><tbody><tr><td rowspan=2>North<td>5<td>6<tr><td>7<td><p>8</p><script>no</script></table>after"""
    assert text("a.html", source) == (
        "Gates\nHall | Visitors 2024 | Visitors 2025\nNorth | 5 | 6\nNorth | 7 | 8\n\nafter"
    )


def test_word_tables_have_merged_cells_in_each_row():
    document = docx.Document()
    table = document.add_table(rows=3, cols=2)
    for index, words in enumerate(["hall", "2024", "North", "A", "", "B"]):
        table.cell(index // 2, index % 2).text = words
    table.cell(1, 0).merge(table.cell(2, 0))
    table.rows[0]._tr.get_or_add_trPr().append(OxmlElement("w:tblHeader"))
    assert text("a.docx", saved(document)) == "hall | 2024\n--- | ---\nNorth | A\nNorth | B"


def test_slides_have_merged_cells_in_each_row():
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[6])
    table = slide.shapes.add_table(3, 2, Inches(1), Inches(1), Inches(3), Inches(1)).table
    for index, words in enumerate(["hall", "gate", "North", "A", "", "B"]):
        table.cell(index // 2, index % 2).text = words
    table.cell(1, 0).merge(table.cell(2, 0))
    assert text("a.pptx", saved(deck)) == "hall | gate\nNorth | A\nNorth | B"


def test_restructured_tables_have_merged_cells_in_each_row():
    source = "+-------+------+\n| Hall  | Gate |\n+=======+======+\n| North | A    |\n"
    source += "|       +------+\n|       | B    |\n+-------+------+\n"
    assert text("a.rst", source) == "Hall | Gate\nNorth | A\nNorth | B"


def test_markdown_tables_with_wide_rows_become_records_and_others_stay():
    long = "word " * 120
    body = text("a.md", f"# Gates\n\n| Gate | Use |\n|---|---|\n| A | {long}|\n| B | shut |\n\nafter\n")
    assert body.count("Gate: A") > 1
    assert "Gate: B\nUse: shut" in body
    assert body.endswith("after")
    plain = "| Gate | Use |\n|---|---|\n| A | open |"
    assert text("a.md", f"# Gates\n\n{plain}\n") == plain


def test_json_objects_longer_than_a_chunk_repeat_their_key():
    body = text("a.json", '[{"id": 7, "name": "north gate", "note": "' + "It opens at dawn. " * 80 + '"}]')
    assert all(part.startswith("name: north gate\n") for part in body.split("\n\n"))
