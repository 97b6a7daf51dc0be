"""Chooses the thresholds on one half of the facts and reports on the other: `python -m benchmarks.support.measure`.

Intervals are 95 % bootstrap percentiles over sentences. `--tune` prints the best thresholds of the first half.
"""

import argparse
import asyncio
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from itertools import product

from benchmarks.support.facts import Case, cases
from services.embedder.model.loader import ModelConfig
from services.embedder.model.model import EmbeddingModel, Kind
from services.generator.grounding.support import Embed, SupportChecker, Thresholds

RESAMPLES = 2000
GRID = [0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9]


def embedder() -> Embed:
    model = EmbeddingModel.load(ModelConfig())
    known: dict[str, Sequence[float]] = {}

    async def embed(texts: Sequence[str]) -> list[Sequence[float]]:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            vectors = model.embed(new, Kind.PASSAGE)
            known.update(zip(new, (tuple(map(float, row)) for row in vectors), strict=True))
        return [known[text] for text in texts]

    return embed


async def verdicts(made: Sequence[Case], limits: Thresholds, embed: Embed | None) -> list[bool]:
    found = []
    for case in made:
        checked = await SupportChecker(case.passages, embed=embed, seconds=60, thresholds=limits).check(case.sentence)
        found.append(all(one.supported for one in checked.verdicts))
    return found


def interval(hits: Sequence[bool]) -> str:
    pick = random.Random(0)
    shares = sorted(sum(pick.choices(hits, k=len(hits))) / len(hits) for _ in range(RESAMPLES))
    low, high = shares[int(0.025 * RESAMPLES)], shares[int(0.975 * RESAMPLES)]
    return f"{sum(hits) / len(hits):.3f} [{low:.3f}, {high:.3f}] of {len(hits)}"


def balanced(made: Sequence[Case], found: Sequence[bool]) -> float:
    """The mean of the shares of faithful sentences passed and of invented ones caught."""
    passed = [ok for case, ok in zip(made, found, strict=True) if case.supported]
    caught = [not ok for case, ok in zip(made, found, strict=True) if not case.supported]
    return (sum(passed) / len(passed) + sum(caught) / len(caught)) / 2


async def tune(made: Sequence[Case], embed: Embed) -> None:
    words = [(balanced(made, await verdicts(made, Thresholds(words=limit, sure=2), None)), limit) for limit in GRID]
    print("words alone:", sorted(words, reverse=True)[:3])
    meaning = [
        (balanced(made, await verdicts(made, Thresholds(sure=sure, both=both), embed)), sure, both)
        for sure, both in product((0.85, 0.95, 1.01), GRID)
    ]
    print("with meaning (sure, both):", sorted(meaning, reverse=True)[:3])


async def report(made: Sequence[Case], embed: Embed | None, name: str) -> None:
    found = await verdicts(made, Thresholds(), embed)
    sorts: dict[str, list[bool]] = defaultdict(list)
    for case, ok in zip(made, found, strict=True):
        sorts[("faithful, wrongly marked: " if case.supported else "invented, caught: ") + case.how].append(not ok)
        sorts["faithful, wrongly marked" if case.supported else "invented, caught"].append(not ok)
    print(name)
    for sort in sorted(sorts):
        print(f"  {sort:<50} {interval(sorts[sort])}")


async def run(*, tuning: bool) -> None:
    embed = embedder()
    if tuning:
        await tune(cases(held_out=False), embed)
    held_out = cases(held_out=True)
    await report(held_out, None, "words alone, on the other half")
    await report(held_out, embed, "with meaning, on the other half")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tune", action="store_true", help="choose thresholds on the first half")
    asyncio.run(run(tuning=parser.parse_args().tune))
    sys.exit(0)
