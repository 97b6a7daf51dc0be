"""HTML: what a reader of the page reads, under its headings."""

from __future__ import annotations

import re

from lxml import etree

from services.scheduler.ingestion.parsing.decoding import decode
from services.scheduler.ingestion.parsing.document import ParsedDocument, Section, Source
from services.scheduler.ingestion.parsing.outline import Outline
from services.scheduler.ingestion.parsing.rows import fill_spans, table_text
from shared.contracts.problems import Problem, ProblemType

__all__ = ["parse"]

_CHARSET = re.compile(rb"""<(?:meta|\?xml)[^>]{0,400}?(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_DROPPED_TAGS = (
    "script style noscript template head nav footer iframe object embed canvas svg audio video map select "
    "option input textarea datalist dialog"
)
_BOILERPLATE = frozenset({"nav", "footer"})
_BLOCK_TAGS = (
    "address article aside blockquote body center dd details div dl dt fieldset figcaption figure form header "
    "hr main p section summary table thead tbody tfoot caption ul ol menu"
)
_DROPPED = frozenset(_DROPPED_TAGS.split())
_BLOCKS = frozenset(_BLOCK_TAGS.split())
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_LAYOUT = ("table", "pre", "blockquote", *_HEADINGS)
_CONTROLS = ("button", "a", "div", "li", "span", "input", "label", "h2", "h3", "h4")
_CONTROLLED = ("aria-controls", "data-bs-target", "data-target")
_NEVER = frozenset({"script", "style", "template", "noscript"})
_SPANS = ("colspan", "rowspan")
_ALL_ROWS = 65_534
_SPACES = re.compile(r"[ \t\r\n\f\u00a0]+")
_LINE_EDGES = re.compile(r" *\n *")


def parse(source: Source) -> ParsedDocument:
    """Sections at h1 to h6 of the main content; navigation, scripts and controls are left out.

    Rows of data tables become lines with " | " between cells; preformatted text keeps its lines. Text that is hidden
    until somebody opens it (accordions, tabs) is read, other hidden text is not.
    """
    root = _tree(source.data)
    if root is None:
        return ParsedDocument(media_type=source.media_type, sections=())
    sections = _Reader(_DROPPED).read(_main(root)) or _Reader(_DROPPED - _BOILERPLATE).read(root)
    title = " ".join((root.findtext("head/title") or "").split())
    metadata = {"title": title} if title else {}
    return ParsedDocument(media_type=source.media_type, sections=sections, metadata=metadata)


def _tree(data: bytes) -> etree._Element | None:
    declared = _CHARSET.search(data[:4096])
    text = decode(data, declared=declared[1].decode("ascii") if declared else None)
    # huge_tree lifts the nesting limit of libxml2 from 256 to 2,048 elements.
    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    root = etree.fromstring(text.encode("utf-8", errors="replace"), parser)
    if any("depth" in entry.message for entry in parser.error_log.filter_from_fatals()):
        raise Problem(ProblemType.BROKEN_DOCUMENT, "The document is nested too deeply.")
    return root


def _main(root: etree._Element) -> etree._Element:
    """The one element that the page marks as its content, else all of it."""
    for path in ("//main | //*[@role='main']", "//article"):
        found = root.xpath(path)
        if len(found) == 1 and len("".join(found[0].itertext()).strip()) > 200:
            return found[0]
    return root


def _targets(value: str | None) -> list[str]:
    """The ids that an attribute names, as `a b` or as `#a`."""
    return [name.removeprefix("#") for name in (value or "").split()]


def _opens_a_panel(button: etree._Element) -> bool:
    """Whether a button carries a title, as those of accordions and tabs do."""
    titled = button.get("role") == "tab" or any(name in button.attrib for name in ("aria-controls", "aria-expanded"))
    return titled or next(button.iterancestors(*_HEADINGS, "summary"), None) is not None


def _spans(cell: etree._Element) -> tuple[int, int]:
    """How many columns and rows a cell covers; rowspan=0 stands for all that follow."""
    across, down = (value if (value := cell.get(name, "1").strip()).isdecimal() else "1" for name in _SPANS)
    return max(int(across[:4]), 1), int(down[:5]) or _ALL_ROWS


class _Reader:
    """Walks a tree without recursion, so that its depth does not matter."""

    def __init__(self, dropped: frozenset[str]) -> None:
        self._dropped = dropped
        self._outline = Outline()
        self._inline: list[str] = []
        self._pre: etree._Element | None = None
        self._panels: frozenset[str] = frozenset()

    def read(self, root: etree._Element) -> tuple[Section, ...]:
        self._panels = frozenset(
            name for control in root.iter(*_CONTROLS) for at in _CONTROLLED for name in _targets(control.get(at))
        )
        walk = etree.iterwalk(root, events=("start", "end"))
        skipped: etree._Element | None = None
        for event, element in walk:
            if event == "end":
                if element is not skipped:
                    self._end(element)
                self._tail(element, root)
            elif self._is_hidden(element):
                walk.skip_subtree()  # its end is the next event
                skipped = element
            elif element.tag == "table" and next(element.iterdescendants(*_LAYOUT), None) is None:
                walk.skip_subtree()
                skipped = element
                self._paragraph()
                self._data_table(element)
            else:
                self._start(element)
                self._text(element.text)
        self._paragraph()
        return self._outline.sections()

    def _is_hidden(self, element: etree._Element) -> bool:
        attributes = element.attrib
        if element.tag == "button":
            return not _opens_a_panel(element)
        if element.tag in self._dropped or attributes.get("aria-hidden") == "true":
            return not self._is_panel(element)
        return "hidden" in attributes and not self._is_panel(element)

    def _is_panel(self, element: etree._Element) -> bool:
        """Whether it is hidden only until the reader opens it: the panel of an accordion, of a tab or of a menu."""
        if element.tag in _NEVER:
            return False
        shown = element.get("role") == "tabpanel" or element.get("hidden") == "until-found"
        return shown or element.get("id") in self._panels

    def _start(self, element: etree._Element) -> None:
        tag = element.tag
        if tag == "br":
            self._inline.append("\n")
        elif tag in _BLOCKS or tag in _HEADINGS or tag == "pre":
            self._paragraph()
            if tag == "pre":
                self._pre = element
        elif tag == "li":
            self._inline.append("\n- ")
        elif tag in ("tr", "td", "th") or (tag == "button" and element.get("role") == "tab"):
            self._inline.append("\n")

    def _end(self, element: etree._Element) -> None:
        tag = element.tag
        if element is self._pre:
            self._paragraph()
            self._pre = None
        elif tag in _HEADINGS:
            title = "".join(self._inline).rstrip("#¶ \n")  # the permalink signs of documentation tools
            self._inline.clear()
            self._outline.heading(_HEADINGS[tag], title)
        elif tag in _BLOCKS:
            self._paragraph()

    def _data_table(self, table: etree._Element) -> None:
        """Rows are lines and cells are parts of a line, whatever blocks the cells hold."""
        captions = [self._cell(caption) for caption in table.iterchildren("caption")]
        rows = [row for row in table.iter("tr") if not any(map(self._is_hidden, (row, row.getparent())))]
        cells = [[cell for cell in row.iterchildren("td", "th") if not self._is_hidden(cell)] for row in rows]
        header = 0
        for row, inside in zip(rows, cells, strict=True):
            if row.getparent().tag != "thead" and not (inside and all(cell.tag == "th" for cell in inside)):
                break
            header += 1
        spans = [[(self._cell(cell), *_spans(cell)) for cell in row] for row in cells]
        text = table_text(fill_spans(spans, header), header)
        self._outline.add("\n".join([*filter(None, captions), text] if text else captions))

    def _cell(self, cell: etree._Element) -> str:
        parts = [cell.text or ""]
        walk = etree.iterwalk(cell, events=("start", "end"))
        next(walk)
        for event, element in walk:
            if element is cell:
                break
            if event == "start" and self._is_hidden(element):
                walk.skip_subtree()
            elif event == "start":
                parts.append(" " if element.tag in _BLOCKS or element.tag in ("li", "br") else "")
                parts.append(element.text or "")
            else:
                parts.append(" " if element.tag in _BLOCKS else "")
                parts.append(element.tail or "")
        return _SPACES.sub(" ", "".join(parts)).strip()

    def _tail(self, element: etree._Element, root: etree._Element) -> None:
        if element is not root:
            self._text(element.tail)

    def _text(self, text: str | None) -> None:
        if text:
            self._inline.append(text if self._pre is not None else _SPACES.sub(" ", text))

    def _paragraph(self) -> None:
        text = "".join(self._inline)
        self._inline.clear()
        if self._pre is None:
            text = _LINE_EDGES.sub("\n", re.sub(" {2,}", " ", text)).strip()
        self._outline.add(text.strip("\n"))
