"""Reports as HTML files that need nothing else."""

import re
from html.parser import HTMLParser
from typing import Final

__all__ = ["check_page"]

VOID: Final = ("meta", "br")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.charts: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "img", "link", "iframe"), tag
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            assert name not in ("src", "href") or value is None, (tag, value)
        if tag == "svg":
            self.charts.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element without content."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_page(text: str) -> None:
    """Whether a page is whole, asks for nothing from elsewhere, and says in words what each chart shows."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in reader.charts)
    assert not re.search(r"url\(|@import", text)
    assert "nan" not in re.findall(r'="([^"]*)"', text)
