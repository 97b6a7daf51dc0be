"""HTML by construction: what is not markup already is escaped."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

__all__ = [
    "MOST_ROWS",
    "Cell",
    "Markup",
    "badge",
    "cut",
    "document",
    "element",
    "foreign",
    "join",
    "muted",
    "numbers",
    "table",
]

MOST_ROWS: Final = 50
LONGEST_BADGE: Final = 1_000

_CONTROLS: Final = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: "\N{SYMBOL FOR DELETE}",
    **dict.fromkeys(range(0x80, 0xA0), "\N{REPLACEMENT CHARACTER}"),
}
_SURROGATES: Final = re.compile("[\ud800-\udfff]")

# Colours are the theme's own text colour and tints over its own background, so that both light and dark themes do.
# The doubled class is stronger than the rules that Jupyter has for tables.
_STYLE: Final = """
.sluice.sluice{font-size:13px;line-height:1.5;max-width:64em;overflow-wrap:anywhere;overflow-x:auto}
.sluice.sluice table{border-collapse:collapse;margin:.5em 0;font-size:inherit}
.sluice.sluice th,.sluice.sluice td{text-align:left;vertical-align:top;padding:.25em .9em .25em 0;max-width:36em;
border:0;border-bottom:1px solid rgba(128,128,128,.3);color:inherit;white-space:normal}
.sluice.sluice th{font-weight:600;white-space:nowrap}
.sluice.sluice td.number,.sluice.sluice th.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.sluice.sluice tr{background:transparent}
.sluice .muted{opacity:.72}
.sluice .prose{white-space:pre-wrap;margin:.3em 0 .6em}
.sluice .badge{display:inline-block;padding:0 .55em;border-radius:.8em;overflow-wrap:break-word;
background:rgba(128,128,128,.22)}
.sluice .good{background:rgba(46,160,67,.28)}
.sluice .bad{background:rgba(229,83,75,.3)}
.sluice .warn{background:rgba(219,158,28,.32)}
.sluice .busy{background:rgba(56,132,244,.28)}
.sluice .doubt{text-decoration:underline wavy rgba(219,158,28,.95);text-underline-offset:.25em}
.sluice details{margin:.15em 0}
.sluice summary{cursor:pointer}
.sluice blockquote{margin:.3em 0 .5em 1em;padding:.1em 0 .1em .9em;border-left:3px solid rgba(128,128,128,.45);
white-space:pre-wrap;color:inherit}
.sluice progress{width:14em;vertical-align:middle}
"""


class Markup(str):
    """HTML that is safe to show."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """What a table shows in one place; a number stands at the right."""

    content: str
    number: bool = False


def element(name: str, /, *children: str, **attributes: str | bool | None) -> Markup:
    """An element; children that are not markup are text. An attribute's `_` is `-`, one at its end is left out.

    An attribute of True has no value; one that is None or False is left out.
    """
    said = "".join(
        _attribute(key, value) for key, value in attributes.items() if value is not None and value is not False
    )
    return Markup(f"<{name}{said}>{''.join(map(_inner, children))}</{name}>")


def join(children: Iterable[str], separator: str = "") -> Markup:
    """Pieces one after the other, each escaped where it is not markup."""
    return Markup(_inner(separator).join(map(_inner, children)))


def document(*children: str) -> Markup:
    """All that one output shows. Jupyter does not take dollar signs in it for formulas."""
    classes = "sluice tex2jax_ignore mathjax_ignore"
    return element("div", element("style", Markup(_STYLE)), *children, class_=classes)


def cut(text: str, most: int) -> str:
    """The beginning of a long text, which says how much is missing."""
    return text if len(text) <= most else f"{text[:most].rstrip()}… ({len(text) - most:,} more characters)"


def foreign(text: str, most: int = 200) -> Markup:
    """Somebody else's text, whose writing direction stays within it."""
    return element("bdi", cut(text, most))


def muted(*children: str) -> Markup:
    return element("span", *children, class_="muted")


def badge(text: str, kind: str = "") -> Markup:
    return element("span", cut(text, LONGEST_BADGE), class_=f"badge {kind}".strip())


def table(headings: Sequence[str], rows: Iterable[Sequence[Cell]], *, total: int, most: int = MOST_ROWS) -> Markup:
    """The first rows of `total` under their headings, and how many more there are."""
    shown = [row for row, _ in zip(rows, range(most), strict=False)]
    right = [cell.number for cell in shown[0]] if shown else [False] * len(headings)
    head = join(
        element("th", text, scope="col", class_="number" if number else None)
        for text, number in zip(headings, right, strict=True)
    )
    body = join(
        element("tr", *(element("td", cell.content, class_="number" if cell.number else None) for cell in row))
        for row in shown
    )
    more = muted(f"and {total - len(shown):,} more") if total > len(shown) else ""
    return join((element("table", element("thead", element("tr", head)), element("tbody", body)), more))


def numbers(indexes: Iterable[int]) -> str:
    """Sources by their indexes, as citations name them."""
    return " ".join(f"[{index}]" for index in indexes)


def _attribute(name: str, value: str | bool) -> str:
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{_escaped(str(value))}"'


def _inner(child: str) -> str:
    return child if isinstance(child, Markup) else _escaped(child)


def _escaped(text: str) -> str:
    """Control characters as signs for them: a browser would drop them or take them for something else."""
    plain = text.replace("\r\n", "\n").translate(_CONTROLS)
    return escape(_SURROGATES.sub("\N{REPLACEMENT CHARACTER}", plain))
