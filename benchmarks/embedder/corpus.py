"""What is embedded: Sluice's own documentation, as passages, as questions, and cut to lengths."""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.suite import ROOT

__all__ = ["Judged", "cut", "judged", "mixed", "ndcg"]

LEAST_CHARACTERS: Final = 80
MOST_CHARACTERS: Final = 900
DEPTH: Final = 10


@dataclass(frozen=True, slots=True)
class Judged:
    """Passages, and queries each with the indices of the passages that answer it."""

    passages: list[str]
    queries: list[str]
    relevant: list[set[int]]


@cache
def judged() -> Judged:
    """Two kinds of queries: questions whose answer is in a page, and headings, for the paragraphs that stand below."""
    found: list[tuple[str, str, str]] = []
    for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        if file.name == "benchmarks.md":  # which this benchmark writes
            continue
        name = str(file.relative_to(ROOT))
        parts = re.split(r"^#+ (.+)$", file.read_text(), flags=re.MULTILINE)
        for heading, body in zip(parts[1::2], parts[2::2], strict=True):
            paragraphs = (text for text in body.split("\n\n") if len(text) >= LEAST_CHARACTERS)
            found += [(name, heading, text[:MOST_CHARACTERS]) for text in paragraphs]
    lines = (ROOT / "examples/nightly/questions.jsonl").read_text().splitlines()
    queries = [
        (line["question"], {i for i, (name, _, _) in enumerate(found) if name in line["sources"]})
        for line in map(json.loads, lines)
    ]
    headings: dict[tuple[str, str], set[int]] = {}
    for i, (name, heading, _) in enumerate(found):
        headings.setdefault((name, heading), set()).add(i)
    queries += [(heading, below) for (_, heading), below in headings.items()]
    return Judged([text for _, _, text in found], [query for query, _ in queries], [below for _, below in queries])


def ndcg(passages: npt.NDArray[np.float32], queries: npt.NDArray[np.float32], relevant: Sequence[set[int]]) -> float:
    """Mean nDCG@10 of unit vectors, every relevant passage being worth the same."""
    discounts = 1 / np.log2(np.arange(DEPTH) + 2)
    gained = []
    for scores, right in zip(queries @ passages.T, relevant, strict=True):
        hits = np.isin(np.argsort(-scores, kind="stable")[:DEPTH], list(right))
        gained.append(float((discounts * hits).sum() / discounts[: len(right)].sum()))
    return float(np.mean(gained))


@cache
def _text() -> str:
    return " ".join(" ".join(judged().passages).split())


def cut(count: int, characters: int) -> list[str]:
    """Texts of one length."""
    text = _text()
    return [text[start:][:characters] for start in (n * characters % (len(text) - characters) for n in range(count))]


def mixed(count: int) -> list[str]:
    """Texts from 40 to 2,000 characters, each factor of length as frequent as the next."""
    draw = random.Random(0)
    return [cut(1, int(40 * 50 ** draw.random()))[0] for _ in range(count)]
