"""HTML: what a reader of the page reads, under its headings."""

from __future__ import annotations

import re

from lxml import etree

from services.scheduler.ingestion.parsing.decoding import decode
from services.scheduler.ingestion.parsing.document import ParsedDocument, Section, Source
from services.scheduler.ingestion.parsing.outline import Outline
from shared.contracts.problems import Problem, ProblemType

__all__ = ["parse"]

_CHARSET = re.compile(rb"""<(?:meta|\?xml)[^>]{0,400}?(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE)
_DROPPED_TAGS = (
    "script style noscript template head nav footer iframe object embed canvas svg audio video map select "
    "option button input textarea datalist dialog"
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
_SPACES = re.compile(r"[ \t\r\n\f\u00a0]+")
_LINE_EDGES = re.compile(r" *\n *")


def parse(source: Source) -> ParsedDocument:
    """Sections at h1 to h6 of the main content; navigation, scripts and controls are left out.

    Rows of data tables become lines with " | " between cells; preformatted text keeps its lines.
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


class _Reader:
    """Walks a tree without recursion, so that its depth does not matter."""

    def __init__(self, dropped: frozenset[str]) -> None:
        self._dropped = dropped
        self._outline = Outline()
        self._inline: list[str] = []
        self._pre: etree._Element | None = None
        self._table: etree._Element | None = None

    def read(self, root: etree._Element) -> tuple[Section, ...]:
        walk = etree.iterwalk(root, events=("start", "end"))
        for event, element in walk:
            if event == "end":
                self._end(element)
                self._tail(element, root)
            elif self._is_hidden(element):
                walk.skip_subtree()  # no end event follows
                self._tail(element, root)
            else:
                self._start(element)
                self._text(element.text)
        self._paragraph()
        return self._outline.sections()

    def _is_hidden(self, element: etree._Element) -> bool:
        attributes = element.attrib
        return element.tag in self._dropped or "hidden" in attributes or attributes.get("aria-hidden") == "true"

    def _start(self, element: etree._Element) -> None:
        tag = element.tag
        if tag == "br":
            self._inline.append("\n")
        elif self._table is not None:
            self._start_in_table(element)
        elif tag in _BLOCKS or tag in _HEADINGS or tag == "pre":
            self._paragraph()
            if tag == "pre":
                self._pre = element
            elif tag == "table" and next(element.iterdescendants(*_LAYOUT), None) is None:
                self._table = element
        elif tag == "li":
            self._inline.append("\n- ")
        elif tag in ("tr", "td", "th"):
            self._inline.append("\n")

    def _start_in_table(self, element: etree._Element) -> None:
        """Rows are lines and cells are parts of a line, whatever blocks the cells hold."""
        if element.tag in ("tr", "caption"):
            self._inline.append("\n")
        elif element.tag in ("td", "th"):
            self._inline.append(" | " if element.getprevious() is not None else "")
        else:
            self._inline.append(" " if element.tag in _BLOCKS or element.tag == "li" else "")

    def _end(self, element: etree._Element) -> None:
        tag = element.tag
        if element is self._pre:
            self._paragraph()
            self._pre = None
        elif element is self._table:
            self._paragraph()
            self._table = None
        elif self._table is not None:
            self._inline.append("\n" if tag == "caption" else " " if tag in _BLOCKS else "")
        elif tag in _HEADINGS:
            title = "".join(self._inline).rstrip("#¶ \n")  # the permalink signs of documentation tools
            self._inline.clear()
            self._outline.heading(_HEADINGS[tag], title)
        elif tag in _BLOCKS:
            self._paragraph()

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
