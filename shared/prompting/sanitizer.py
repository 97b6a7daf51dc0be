"""Text of strangers on its way into a prompt: it can say anything, but not pose as a part of the prompt's form.

What this does: a text cannot open or close the tags around sources, and cannot spell the control tokens by which chat
templates mark who speaks. What no such filter can do is keep a model from believing what a text says.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Final

__all__ = ["Sanitizer"]

LONGEST_NAME: Final = 200

_INVISIBLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\U000e0000-\U000e007f]")
"""Control characters, and the tag characters that spell text which only a model sees."""

_OPEN = r"[<\uff1c\ufe64]"
_BAR = r"[|\uff5c]"
_SLASH = r"[/\uff0f\u2044\u2215\u29f8]"
_UNSEEN = r"[\s\u00ad\u200b-\u200f\u2060-\u2064\ufeff]*+"  # possessive: a run of spaces is read once
_LIKE_LETTERS = ((0x2100, 0x214F), (0x24B6, 0x24E9), (0xFF21, 0xFF5A), (0x1D400, 0x1D7FF))
"""Where Unicode has letters again: full width, circled, and for mathematics."""
_NAMES = (
    r"s|bos|eos|pad|unk|think|tool_call|tool_response|start_of_turn|end_of_turn|start_of_image|end_of_image"
    r"|fim_(?:prefix|middle|suffix|pad)"
)
_CAPITALS = r"INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|THINK|IMG"
_CONTROL = (
    rf"{_OPEN}(?={_BAR}[^\s<>|\uff5c]{{1,64}}{_BAR}>)",  # ChatML, Llama 3 and 4, Phi, Granite, GPT-OSS, DeepSeek
    rf"<(?=/?(?:{_NAMES})>)",  # Gemma, Llama 2, Qwen
    r"<(?=</?SYS>>)",  # Llama 2
    rf"\[(?=/?(?:{_CAPITALS})\])",  # Mistral
)
_ENTITIES: Final = {"<": "&lt;", "\uff1c": "&lt;", "\ufe64": "&lt;", "[": "&#91;"}


class Sanitizer:
    """Replaces the first character of what would be read as form, "<" by "&lt;" and "[" by "&#91;".

    `tags` are the names of the tags that mark sources. `special` are further control tokens: those of the tokenizer
    at hand. Invisible control characters are removed.
    """

    def __init__(self, tags: Iterable[str] = (), special: Iterable[str] = ()) -> None:
        control = [*_CONTROL, *(_escaped(token) for token in special if len(token) > 2 and token[0] in _ENTITIES)]
        named = "|".join(map(_spelled, sorted(tags)))
        marked = [rf"{_OPEN}(?={_UNSEEN}(?:{_SLASH}{_UNSEEN})?(?:{named})\b)"] if named else []
        self._control = re.compile("|".join(control))
        self._form = re.compile("|".join([*control, *marked]))

    def speech(self, text: str) -> str:
        """What a person or a model said: without control tokens."""
        return self._control.sub(_replace, _INVISIBLE.sub("", text))

    def data(self, text: str) -> str:
        """What a document says: without control tokens, and without the tags around sources in any spelling."""
        return self._form.sub(_replace, _INVISIBLE.sub("", text))

    def name(self, text: str) -> str:
        """The name of a document: one line of at most 200 characters without quotes and angle brackets."""
        line = " ".join(_INVISIBLE.sub("", text).split())
        line = line if len(line) <= LONGEST_NAME else line[: LONGEST_NAME - 1] + "…"
        return self.speech(re.sub(r"[>\uff1e]", ")", re.sub(_OPEN, "(", line)).replace('"', "'"))


def _spelled(name: str) -> str:
    """A pattern of the name in letters of any case and form."""
    return "".join(f"[{re.escape(letter)}{_letters_like().get(letter, '')}]" for letter in name.casefold())


@cache
def _letters_like() -> dict[str, str]:
    """For each of a-z its capital and the characters that Unicode takes for it."""
    found = {chr(code): chr(code).upper() for code in range(ord("a"), ord("z") + 1)}
    for first, last in _LIKE_LETTERS:
        for code in range(first, last + 1):
            letter = unicodedata.normalize("NFKC", chr(code)).casefold()
            if letter in found:
                found[letter] += chr(code)
    return found


def _escaped(token: str) -> str:
    return f"{re.escape(token[0])}(?={re.escape(token[1:])})"


def _replace(match: re.Match[str]) -> str:
    return _ENTITIES[match[0]]
