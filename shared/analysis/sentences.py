# ruff: noqa: RUF001  (punctuation of many scripts is this module's subject)
"""Text into sentences, without a model: prose, lists, tables, headings and code, as documents really mix them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Sentence", "SentenceKind", "is_complete", "prose_spans", "split_prose", "split_sentences"]


class SentenceKind(StrEnum):
    """What a sentence is part of."""

    PROSE = "prose"
    ITEM = "item"
    ROW = "row"
    HEADING = "heading"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence, list item, table row, heading or line of code; white space is collapsed."""

    text: str
    kind: SentenceKind = SentenceKind.PROSE


_FENCE = re.compile(r"^\s*(```|~~~)")
_HEADING = re.compile(r"^\s{0,3}#{1,6}\s+(.*?)\s*#*\s*$")
_UNDERLINE = re.compile(r"^\s*([=\-~^*])\1{2,}\s*$")
_RULE = re.compile(r"^[\s|:+=\-_*~]+$")
_ITEM = re.compile(r"^\s*(?:[-*+•‣◦–]|\(?(?:\d{1,3}[.)]|[a-z]\)))\s+(?=\S)")
_ROW = re.compile(r"^\s*\|.*\|\s*$|^[^|]+(?:\s\|\s[^|]+){2,}$|^[^\t]+(?:\t+[^\t]+){2,}$")
_TABLE_RULE = re.compile(r"^\s*\|?\s*:?-+[-\s|:+]*$")
_CODE = re.compile(r"^(?: {4,}|\t)\S*[^.!?]*(?:[{};=]|::|->|\w\(\))[^.!?]*$|^\s*(?:>>>|\$|\.\.\.)\s")
_TITLE = re.compile(r"^[^\s.!?,;:][^.!?,;:]{0,70}$")

_END = re.compile(r"[.!?…]+[\"'”’»)\]]*(?:\s?\[\d{1,3}\])*(?=\s)|[。！？]+[」』”）]*")
_STARTS = re.compile(r"\s*[\"'“‘«(\[¿¡`*_]*[^\Wa-z_]")
_MAY_END = (
    "sr jr etc inc ltd co corp dept figs eqs sec ch chap vol no nos pp p ed eds al a.m p.m u.s u.k u.n ph.d "
    "jan feb mar apr jun jul aug sep sept oct nov dec est usw abs art s rev gen gov sen rep hon"
)
_NEVER_ENDS = "mr mrs ms dr prof vs cf e.g i.e eg ie fig eq st bzw z.b d.h nr approx ca capt lt col sgt"
_ABBREVIATIONS = frozenset(_MAY_END.split())
_NEVER_LAST = frozenset(_NEVER_ENDS.split())


def split_sentences(text: str) -> list[Sentence]:
    """Every sentence of `text` in order.

    No text is lost but white space, rules, bullets and heading marks;
    the head of a table is repeated in each of its rows.
    """
    found: list[Sentence] = []
    for kind, block in _blocks(text.replace("\r\n", "\n").split("\n")):
        if kind is SentenceKind.PROSE:
            found += [Sentence(sentence) for sentence in split_prose(block)]
        elif kind is SentenceKind.ITEM:
            found += [Sentence(sentence, kind) for sentence in split_prose(block)]
        elif collapsed := " ".join(block.split()):
            found.append(Sentence(collapsed, kind))
    return found


def split_prose(text: str) -> list[str]:
    """The sentences of one paragraph, white space collapsed."""
    text = " ".join(text.split())
    sentences = (text[start:end].strip() for start, end in prose_spans(text))
    return [sentence for sentence in sentences if sentence]


def prose_spans(text: str) -> list[tuple[int, int]]:
    """Where the sentences of one paragraph on one line begin and end, like slices; together they are the text."""
    spans = []
    start = 0
    for end in _END.finditer(text):
        if _ends_sentence(text, start, end):
            spans.append((start, end.end()))
            start = end.end()
    return [*spans, (start, len(text))]


def is_complete(sentence: str) -> bool:
    """Whether it ends as sentences do, so that another can follow it on the same line."""
    return sentence.rstrip("\"'”’»)]」』）").endswith((".", "!", "?", "…", "。", "！", "？"))


def _ends_sentence(text: str, start: int, end: re.Match[str]) -> bool:
    mark = end[0]
    if mark[0] in "。！？":
        return True
    if not _STARTS.match(text, end.end()):
        return False
    if mark[0] != "." or mark.startswith(".."):
        return True
    word = text[start : end.start()].rpartition(" ")[2].lstrip("([\"'“‘«").casefold()
    if word in _NEVER_LAST or (len(word) == 1 and word.isalpha() and word != "i"):
        return False  # "e.g. Paris", "J. Smith"
    return not (word in _ABBREVIATIONS and _continues(text, end.end())) and not _is_number_of_item(word, text, start)


def _continues(text: str, position: int) -> bool:
    """After "No." or "Jan." a number goes on; after "Inc." or "etc." a capital begins a sentence."""
    return text[position:].lstrip()[:1].isdigit()


def _is_number_of_item(word: str, text: str, start: int) -> bool:
    """The "2." of a list that has lost its line breaks belongs to what follows it."""
    return word.isdigit() and text[start:].lstrip().casefold().startswith(word + ".")


def _blocks(lines: list[str]) -> Iterator[tuple[SentenceKind, str]]:
    paragraph: list[str] = []
    columns: list[str] = []
    kind = SentenceKind.PROSE
    fenced = False
    for number, line in enumerate(lines):
        own = _kind_of(line, lines, number, fenced=fenced)
        joins = own is SentenceKind.PROSE and bool(line.strip())
        if not joins and paragraph:
            yield kind, _join(paragraph)
            paragraph, kind = [], SentenceKind.PROSE
        if own is not SentenceKind.ROW and not _RULE.match(line):
            columns = []
        if _FENCE.match(line):
            fenced = not fenced
        elif own is SentenceKind.ROW:
            cells = _cells(line)
            if not columns and number + 1 < len(lines) and _TABLE_RULE.match(lines[number + 1]):
                columns = cells
            else:
                yield own, _row(columns, cells)
        elif own is SentenceKind.ITEM:
            paragraph, kind = [_ITEM.sub("", line)], SentenceKind.ITEM
        elif joins:
            paragraph.append(line)
        elif own is not None and own is not SentenceKind.PROSE:
            yield own, _heading(line) if own is SentenceKind.HEADING else line
    if paragraph:
        yield kind, _join(paragraph)


def _kind_of(line: str, lines: list[str], number: int, *, fenced: bool) -> SentenceKind | None:
    """What a line is; None for a rule or a fence, which says nothing."""
    following = lines[number + 1] if number + 1 < len(lines) else ""
    if _FENCE.match(line):
        return None
    if fenced or _CODE.match(line):
        return SentenceKind.CODE
    if line.strip() and _RULE.match(line):
        return None
    if _HEADING.match(line) or (_UNDERLINE.match(following) and _TITLE.match(line.strip())):
        return SentenceKind.HEADING
    if _ROW.match(line):
        return SentenceKind.ROW
    if _ITEM.match(line):
        return SentenceKind.ITEM
    alone = (number == 0 or not lines[number - 1].strip()) and not following.strip() and number + 1 < len(lines)
    return SentenceKind.HEADING if alone and _TITLE.match(line.strip()) else SentenceKind.PROSE


def _heading(line: str) -> str:
    marked = _HEADING.match(line)
    return marked[1] if marked else line


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"\||\t+", line.strip().strip("|"))]


def _row(columns: list[str], cells: list[str]) -> str:
    """A row says what its cells are, where the table names its columns: "Plan: Team; Seats: 10"."""
    if len(columns) != len(cells):
        return " | ".join(cell for cell in cells if cell)
    named = [f"{column}: {cell}" if column else cell for column, cell in zip(columns, cells, strict=True) if cell]
    return "; ".join(named)


def _join(lines: list[str]) -> str:
    """Lines of one paragraph; a word that was hyphenated across lines keeps its hyphen but gets no space."""
    return re.sub(r"(?<=\w)-\n\s*(?=[a-z])", "-", "\n".join(lines))
