"""Charts and diagrams of Office files as text (ECMA-376 parts 1: 21.2 DrawingML charts, 21.4 diagrams)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lxml import etree

from services.scheduler.ingestion.parsing.rows import table_text

__all__ = ["CHART", "DIAGRAM", "RELATION", "drawing_text"]

_C = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_D = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
CHART, DIAGRAM = f"{_C}chart", f"{_D}relIds"
"""Tags of what refers to a chart, and to a diagram."""
RELATION = {CHART: f"{_R}id", DIAGRAM: f"{_R}dm"}
"""By tag, the attribute with the id of the part."""

_NAMES = ("cat", "xVal")
_VALUES = ("val", "yVal")
_MOST_POINTS = 10_000


def drawing_text(part: bytes) -> str:
    """The title, axes and values of a chart, or the texts of a diagram. Raises ValueError for damaged XML."""
    try:
        root = etree.fromstring(part, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as error:
        raise ValueError(str(error)) from error
    if root.tag == f"{_D}dataModel":
        return "\n".join(filter(None, (_words(point) for point in root.iter(f"{_D}t"))))
    return "\n".join(filter(None, [*_titles(root), _series(root)]))


def _titles(root: Any) -> Iterator[str]:
    for title in root.iter(f"{_C}title"):
        yield _words(title)


def _words(element: Any) -> str:
    paragraphs = ("".join(text.text or "" for text in one.iter(f"{_A}t")) for one in element.iter(f"{_A}p"))
    return " ".join(" ".join(filter(None, paragraphs)).split())


def _series(root: Any) -> str:
    """A table: a row a category, a column a series."""
    columns: list[tuple[str, dict[int, str]]] = []
    categories: dict[int, str] = {}
    for number, series in enumerate(root.iter(f"{_C}ser"), start=1):
        name = " ".join(_points(series.find(f"{_C}tx")).values()) or f"series {number}"
        for tag in _NAMES:
            categories = categories or _points(series.find(f"{_C}{tag}"))
        values = next(filter(None, (_points(series.find(f"{_C}{tag}")) for tag in _VALUES)), {})
        columns.append((name, values))
    indexes = sorted({index for _, values in columns for index in values} | set(categories))[:_MOST_POINTS]
    if not indexes:
        return ""
    body = [
        [categories.get(index, str(index + 1)), *(values.get(index, "") for _, values in columns)] for index in indexes
    ]
    return table_text([["category", *(name for name, _ in columns)], *body], header_rows=1)


def _points(element: Any) -> dict[int, str]:
    """The texts of a cache, by index; several levels of categories are joined."""
    found: dict[int, str] = {}
    if element is None:
        return found
    for number, point in enumerate(element.iter(f"{_C}pt")):
        index = point.get("idx", "")
        place = int(index) if index.isdecimal() and len(index) < 9 else number
        value = (point.findtext(f"{_C}v") or "").strip()
        found[place] = f"{value} {found[place]}" if place in found else value
    if not found and (plain := element.findtext(f"{_C}v")):
        found[0] = plain.strip()
    return found
