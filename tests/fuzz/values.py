"""Values that go wrong: odd texts and numbers, JSON bent out of shape, bytes with damage."""

import copy
import json
import random
from collections.abc import Callable, Iterable
from typing import Any, Final

from hypothesis import strategies as st

__all__ = ["bent", "bent_bytes", "damaged", "deep", "json_bytes", "odd_numbers", "odd_texts", "odd_values"]

ODD_TEXTS: Final = (
    *("", " ", "\0", "a\0b", "\n", "a\r\nb", "\t", "é", "e\u0301", "\ud800", "\udfff x", "\ufeff", "\ufffe", "😀"),
    *("\u202e", "\u0663", "\uff10", "null", "true", "NaN", "-", ".", "..", "../..", "/", "\\", "*", ">", "a.b", "a b"),
    *("'", '"', "`", "''", "' OR '1'='1", "--", ";", "%", "%00", "_", "$", "${{", "${{ x }}", "}}", "{{", "<"),
    *("__class__", "default", "query", "-1", "1e999", "urn:sluice:problem:internal-error", "2026-02-30", "/etc/passwd"),
    *("Z" * 65, "x" * 1100, "9" * 5000),
)
ODD_NUMBERS: Final = (
    *(0, -1, 1, 2, 255, 2**31, 2**53, 2**53 + 1, 2**63, -(2**63), 2**64, 10**30, 10**400),
    *(-0.0, 0.5, 5e-324, 1e16, 1e308, -1e308, float("inf"), float("-inf"), float("nan")),
)

odd_texts: Final = st.sampled_from(ODD_TEXTS) | st.text(max_size=12)
odd_numbers: Final = st.sampled_from(ODD_NUMBERS) | st.integers() | st.floats()


def deep(levels: int, wrap: Callable[[Any], Any] = lambda inner: [inner]) -> Any:
    """A value within so many others."""
    value: Any = 1
    for _ in range(levels):
        value = wrap(value)
    return value


_DEEP: Final = st.builds(
    deep, st.sampled_from([3, 9, 30, 100, 180, 190, 195, 198, 199, 200, 300]), st.just(lambda inner: {"a": inner})
) | st.builds(deep, st.sampled_from([9, 100, 190, 198, 300]))
odd_values: Final = (
    st.recursive(
        st.none() | st.booleans() | odd_numbers | odd_texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_texts, inner, max_size=3),
        max_leaves=8,
    )
    | _DEEP
)


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterable[tuple[Any, ...]]:
    yield at
    if isinstance(value, dict):
        for name in value:
            yield from _places(value[name], (*at, name))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from _places(value[index], (*at, index))


def _bend(draw: Callable[[Any], Any], value: Any, extra: Any, names: tuple[str, ...]) -> Any:
    """The value with one change somewhere in it."""
    places = [place for place in _places(value) if place] or [()]
    place = draw(st.sampled_from(places))
    if not place:
        return draw(extra)
    owner = value
    for part in place[:-1]:
        owner = owner[part]
    last = place[-1]
    match draw(st.integers(0, 9)):
        case 0 | 1 | 7 | 8 | 9:
            owner[last] = _like(draw, owner[last], extra)
        case 2:
            owner[last] = draw(extra)
        case 3:
            del owner[last]
        case 4 if isinstance(owner, dict):
            owner[draw(st.sampled_from(names) | odd_texts if names else odd_texts)] = draw(extra)
        case 5 if isinstance(owner, dict):
            owner[draw(odd_texts)] = owner.pop(last)
        case _:
            other = value
            for part in draw(st.sampled_from(places)):
                other = other[part]
            owner[last] = copy.deepcopy(other)
    return value


def _like(draw: Callable[[Any], Any], value: Any, extra: Any) -> Any:
    """Another value of the same kind, so that what is told by the kind alone does not hide the rest."""
    match value:
        case bool():
            return not value
        case int() | float():
            return draw(odd_numbers)
        case str():
            return draw(odd_texts)
        case list():
            return value * draw(st.integers(0, 3))
    return draw(extra)


@st.composite
def bent(
    draw: Callable[[Any], Any], seeds: list[Any], *, extra: Any = odd_values, names: tuple[str, ...] = (), most: int = 4
) -> Any:
    """One of the seeds, which are JSON values, with up to `most` changes: odd values, members added, gone or renamed,
    parts of it put elsewhere. `extra` are values to put in, `names` those of members that may be added."""
    value = copy.deepcopy(draw(st.sampled_from(seeds)))
    for _ in range(min(most, draw(st.sampled_from([0, 1, 1, 1, 1, 2, 2, 3, most])))):
        value = _bend(draw, value, extra, names)
    return value


def json_bytes(value: Any) -> bytes:
    """As JSON, or what some writers take for it: with NaN, with lone surrogates as escapes."""
    return json.dumps(value, ensure_ascii=True).encode()


TOKENS: Final = (
    *(
        b"\0",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\\ud800",
        b"\\u0000",
        b"[",
        b"{",
        b'"',
        b"}",
        b"]",
        b",",
        b":",
        b'"a":1,',
    ),
    *(
        b"NaN",
        b"1e999",
        b"-0",
        b"9" * 5000,
        b"null",
        b"\r\n",
        b"\r\n\r\n",
        b"--",
        b"\xef\xbb\xbf",
        b"\xff" * 64,
        b"\0" * 64,
    ),
)


@st.composite
def damaged(draw: Callable[[Any], Any], data: bytes, *, tokens: tuple[bytes, ...] = TOKENS, most: int = 6) -> bytes:
    """The bytes with damage: bits flipped, parts cut out, doubled, moved or overwritten, tokens put in, no end."""
    # One seed for the whole damage: drawing each place would cost more than it is worth for files of many kilobytes.
    chance = random.Random(draw(st.integers(0, 2**32)))
    data = bytearray(data)
    for _ in range(draw(st.integers(0, most))):
        if not data:
            break
        at, size = chance.randrange(len(data)), min(1 << chance.randrange(12), len(data))
        match draw(st.integers(0, 7)):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
            case 2:
                del data[at : at + size]
            case 3:
                data[at:at] = data[at : at + size]
            case 4:
                other = chance.randrange(len(data))
                data[at : at + size] = data[other : other + size]
            case 5:
                data[at:at] = chance.choice(tokens)
            case 6:
                data[at : at + size] = chance.randbytes(size)
            case 7:
                del data[at:]
    return bytes(data)


@st.composite
def bent_bytes(draw: Callable[[Any], Any], seeds: list[Any], **options: Any) -> bytes:
    """JSON of a bent value, at times with damage in its bytes."""
    data = json_bytes(draw(bent(seeds, **options)))
    return draw(damaged(data, most=2)) if draw(st.integers(0, 7)) == 0 else data
