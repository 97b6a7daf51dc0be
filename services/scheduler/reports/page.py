"""The frame of a report: an HTML file that needs nothing else, legible on light and dark paper and on a phone."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

__all__ = ["document", "figures", "table"]

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1f2733; --muted: #5f6b7a; --line: #e3e7ec; --paper: #fff; --good: #1a7f5a;
  --bad: #c4473a; --accent: #2f6fde; --other: #c2600a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --muted: #98a2b0; --line: #333c48; --paper: #161b22;
  --good: #4cc38a; --bad: #ff8b7e; --accent: #7aa7ff; --other: #ffa657; } }
body { margin: 2rem auto; max-width: 960px; padding: 0 1rem; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; }
h1, h2, p { overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p, .muted { color: var(--muted); } .wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .8rem .35rem 0; text-align: left; vertical-align: top; }
th { color: var(--muted); font-weight: 600; } td { overflow-wrap: anywhere; min-width: 3.5rem; }
td.number { font-variant-numeric: tabular-nums; } th.number, td.number { text-align: right; white-space: nowrap; }
td.text { min-width: 9rem; }
.good { color: var(--good); } .bad { color: var(--bad); } figure { margin: 1.5rem 0; } figure svg { max-width: 100%;
  height: auto; } figure > svg { border: 1px solid var(--line); border-radius: 12px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); gap: 1rem; }
.charts.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 270px), 1fr)); }
.charts figure { margin: 0; border: 1px solid var(--line); border-radius: 12px; padding: .7rem; }
.charts svg { display: block; width: 100%; border: 0; }
figcaption { font-weight: 600; font-size: 14px; padding: 0 .3rem .3rem; }
.chart text { font-size: 12px; fill: var(--muted); } .chart text.strong { fill: var(--ink); font-weight: 600; }
.chart .grid, .chart .axis { stroke: var(--line); } .chart .track { fill: var(--line); }
.chart .line { fill: none; stroke: var(--accent); stroke-width: 2; stroke-linejoin: round; }
.chart .line.other { stroke: var(--other); stroke-dasharray: 6 3; }
.chart .dot, .chart .bar { fill: var(--accent); } .chart .dot { opacity: .7; } .chart .dot.best { fill: var(--good); }
.chart .dot.best { opacity: 1; }
.chart .dot.first { fill: var(--paper); stroke: var(--other); stroke-width: 2; opacity: 1; }
.chart .bar.chance { fill: var(--muted); opacity: .6; } .chart .mark { stroke: var(--ink); stroke-width: 2; }
"""


def document(title: str, parts: Iterable[str]) -> bytes:
    """An HTML document of parts that are HTML already; `title` is text."""
    lines = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}</style></head><body><main>",
        f"<h1>{escape(title)}</h1>",
        *parts,
        "</main></body></html>",
    ]
    return "\n".join(lines).encode()


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are HTML already. A head that begins with `>` is that of a column of numbers, and one that
    begins with `<` that of longer texts. What is wider than the page is scrolled."""
    kinds = [{">": ' class="number"', "<": ' class="text"'}.get(head[:1], "") for head in heads]
    names = [head.lstrip("<>") for head in heads]
    label = ", ".join(name for name in names if name)
    lines = [f'<div class="wide" role="group" aria-label="Table: {label}" tabindex="0"><table><thead><tr>']
    lines += [f'<th scope="col"{kind}>{name}</th>' for kind, name in zip(kinds, names, strict=True)]
    lines.append("</tr></thead><tbody>")
    for row in rows:
        cells = (f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "".join([*lines, "</tbody></table></div>"])


def figures(charts: Mapping[str, str], *, small: bool = False) -> str:
    """Charts beside each other by their captions, which are text; `small` ones are three in a row."""
    shown = [f"<figure><figcaption>{escape(name)}</figcaption>{chart}</figure>" for name, chart in charts.items()]
    return f'<div class="charts{" small" if small else ""}">{"".join(shown)}</div>'
