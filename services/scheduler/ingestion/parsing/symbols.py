"""Characters of the fonts Symbol and Wingdings, which give letters another look, as Unicode."""

from __future__ import annotations

__all__ = ["symbol"]

# ruff: noqa: RUF001

_PRIVATE = 0xF000  # where Office puts the 256 characters of a symbol font

# Adobe's encoding of Symbol (symbol.txt of the Unicode consortium's mappings), from 0x20 and from 0xA0.
_SYMBOL = dict(
    zip(
        range(0x20, 0x7F),
        " !∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_‾αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼",
        strict=True,
    )
) | dict(
    zip(
        range(0xA0, 0xFF),
        "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…|—↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈®©™∑⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪ 〉∫⌠⎮⌡⎞⎟⎠⎤⎥⎦⎫⎬⎭",
        strict=True,
    )
)
_WINGDINGS = {
    0x4A: "☺",
    0x4C: "☹",
    0x6C: "●",
    0x6E: "■",
    0x6F: "□",
    0x71: "❑",
    0x76: "❖",
    0x77: "◆",
    0xA7: "▪",
    0xA8: "□",
    0xDF: "←",
    0xE0: "→",
    0xE1: "↑",
    0xE2: "↓",
    0xF0: "⇨",
    0xFB: "✗",
    0xFC: "✓",
    0xFD: "☒",
    0xFE: "☑",
}
_FONTS = {"symbol": _SYMBOL, "wingdings": _WINGDINGS}


def symbol(font: str, code: int) -> str:
    """The character of a font, U+FFFD for one that has no counterpart."""
    if not 0 < code < 0x110000 or 0xD800 <= code < 0xE000:
        return "\N{REPLACEMENT CHARACTER}"
    table = _FONTS.get(font.strip().lower())
    low = code - _PRIVATE if _PRIVATE <= code < _PRIVATE + 0x100 else code
    if table is not None and low < 0x100:
        return table.get(low, "\N{REPLACEMENT CHARACTER}")
    return "\N{REPLACEMENT CHARACTER}" if low != code else chr(code)
