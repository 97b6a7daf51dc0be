"""Measures of rankings, and how sure they are."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

__all__ = ["DEPTH", "MEASURES", "difference", "interval", "measured", "ranked"]

DEPTH: Final = 20
MEASURES: Final = ("ndcg@10", "hit@1", "recall@20", "mrr")
RESAMPLES: Final = 2_000


def ranked(documents: Sequence[str]) -> list[str]:
    """Documents in the order of their best passage, each once."""
    return list(dict.fromkeys(documents))


def measured(ranking: Sequence[str], relevant: Mapping[str, int]) -> dict[str, float]:
    """Each measure of one ranking of documents, from 0 to 1; `relevant` has grades and is not empty.

    nDCG with gains 2^grade - 1 and the discount log2(1 + rank) (Burges et al., "Learning to rank using gradient
    descent", 2005).
    """
    gains = [(2 ** relevant.get(document, 0) - 1) / math.log2(1 + rank) for rank, document in enumerate(ranking, 1)]
    ideal = sorted(relevant.values(), reverse=True)[:10]
    best = sum((2**grade - 1) / math.log2(1 + rank) for rank, grade in enumerate(ideal, 1))
    first = next((rank for rank, document in enumerate(ranking, 1) if document in relevant), None)
    return {
        "ndcg@10": sum(gains[:10]) / best,
        "hit@1": float(first == 1),
        "recall@20": len(set(ranking[:DEPTH]) & set(relevant)) / len(relevant),
        "mrr": 1 / first if first else 0.0,
    }


def interval(values: Sequence[float]) -> dict[str, float]:
    """The mean and its 95 % confidence interval by the percentile bootstrap over questions (Efron and Tibshirani,
    "An Introduction to the Bootstrap", 1993, chapter 13); the same values always give the same interval."""
    found = np.asarray(values, dtype=np.float64)
    chance = np.random.default_rng(0)
    means = found[chance.integers(len(found), size=(RESAMPLES, len(found)))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return {"mean": float(found.mean()), "low": float(low), "high": float(high)}


def difference(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """The interval of the mean difference, question by question."""
    return interval([one - other for one, other in zip(ours, theirs, strict=True)])
