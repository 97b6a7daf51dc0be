"""How many tokens a text has: by a model's own tokenizer, or about."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Tokens", "approximate_tokens", "load_tokens"]

_WIDE = re.compile(r"[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """How to count tokens. `special` are the tokenizer's control tokens; `exact` says that `count` is the model's."""

    count: Callable[[str], int]
    special: tuple[str, ...] = ()
    exact: bool = False


def approximate_tokens(text: str) -> int:
    """About what a tokenizer would say, on the safe side for prose: 4 characters a token, 1 where scripts are wide."""
    wide = len(_WIDE.findall(text))
    return wide + (len(text) - wide + 3) // 4


def load_tokens(path: Path | None) -> Tokens:
    """By the `tokenizer.json` at `path`, or in the folder that it is; about, without a path.

    Raises ValueError where there is no tokenizer that can be read.
    """
    if path is None:
        return Tokens(count=approximate_tokens)
    from tokenizers import Tokenizer

    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001  (the library raises Exception itself)
        raise ValueError(f"{file} cannot be read as a tokenizer: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    added = tokenizer.get_added_tokens_decoder().values()
    return Tokens(
        count=lambda text: len(tokenizer.encode(text, add_special_tokens=False)),
        special=tuple(token.content for token in added if token.special),
        exact=True,
    )
