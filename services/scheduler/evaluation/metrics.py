"""How good retrieval and answers are. Pure functions; relevance is by the name of the document, binary or in grades.

A ranking is the documents of the retrieved passages, best first; a document may stand in it several times, once for
each of its passages. It is judged as the reader of the passages sees it: a second passage of a document takes a place
and adds nothing.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final

__all__ = [
    "citation_precision",
    "cosine",
    "first_rank",
    "mean",
    "ndcg_at",
    "percentile",
    "recall_at",
    "reciprocal_rank",
    "token_f1",
]

ARTICLES: Final = re.compile(r"\b(a|an|the)\b")
CITATION: Final = re.compile(r"\[\d+(?:\s*,\s*\d+)*\]")
PUNCTUATION: Final = str.maketrans("", "", string.punctuation)


def recall_at(k: int, ranking: Sequence[str], relevant: Collection[str]) -> float:
    """The share of the relevant documents that are among the first k (Manning, Raghavan and Schütze, "Introduction to
    Information Retrieval", 2008, section 8.4). Needs one relevant document."""
    return len(set(ranking[:k]) & set(relevant)) / len(set(relevant))


def first_rank(ranking: Sequence[str], relevant: Collection[str]) -> int | None:
    """Where the first relevant document stands, from 1; None where there is none."""
    return next((rank for rank, document in enumerate(ranking, 1) if document in relevant), None)


def reciprocal_rank(ranking: Sequence[str], relevant: Collection[str]) -> float:
    """1 / the rank of the first relevant document, 0 where there is none; its mean over questions is the MRR
    (Voorhees, "The TREC-8 Question Answering Track Report", 1999)."""
    rank = first_rank(ranking, relevant)
    return 0.0 if rank is None else 1.0 / rank


def ndcg_at(k: int, ranking: Sequence[str], relevant: Collection[str] | Mapping[str, int]) -> float:
    """The normalised discounted cumulative gain of the first k: the sum of gain / log2(1 + rank) over the first place
    of each relevant document, divided by that of the best ranking (Järvelin and Kekäläinen, "Cumulated gain-based
    evaluation of IR techniques", ACM TOIS 20(4), 2002). A mapping says the grades, from 1; the gain of a grade is
    2^grade - 1 (Burges et al., "Learning to rank using gradient descent", 2005), so 1 without grades. Needs one
    relevant document."""
    gains = {document: 2.0 ** (relevant[document] if isinstance(relevant, Mapping) else 1) - 1 for document in relevant}
    found = set(gains) & set(ranking[:k])
    gained = math.fsum(gains[document] * _discount(ranking.index(document) + 1) for document in found)
    ideal = sorted(gains.values(), reverse=True)[:k]
    return gained / math.fsum(gain * _discount(rank) for rank, gain in enumerate(ideal, 1))


def token_f1(answer: str, expected: str) -> float:
    """The overlap of two texts as bags of words: the harmonic mean of precision and recall (Rajpurkar et al., "SQuAD:
    100,000+ Questions for Machine Comprehension of Text", 2016), as SQuAD's own script normalises them: lower case, no
    punctuation, no articles. Citations such as [1] do not count. 1 where both have no words, 0 where one has none."""
    said, wanted = _words(answer), _words(expected)
    if not said or not wanted:
        return float(said == wanted)
    common = sum((Counter(said) & Counter(wanted)).values())
    if not common:
        return 0.0
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def citation_precision(cited: Sequence[str], relevant: Collection[str]) -> float | None:
    """The share of the cited documents that are relevant (Liu, Zhang and Liang, "Evaluating Verifiability in Generative
    Search Engines", 2023, by document); None where nothing is cited."""
    return sum(document in relevant for document in cited) / len(cited) if cited else None


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine of two vectors of one length, 0 where one is zero."""
    norms = math.hypot(*one) * math.hypot(*other)
    return math.fsum(a * b for a, b in zip(one, other, strict=True)) / norms if norms else 0.0


def mean(values: Sequence[float]) -> float:
    """0 for no values."""
    return math.fsum(values) / len(values) if values else 0.0


def percentile(values: Sequence[float], percent: float) -> float:
    """By linear interpolation between the closest ranks (type 7 of Hyndman and Fan, "Sample Quantiles in Statistical
    Packages", 1996); 0 for no values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _discount(rank: int) -> float:
    return 1.0 / math.log2(1 + rank)


def _words(text: str) -> list[str]:
    bare = CITATION.sub(" ", text.lower()).translate(PUNCTUATION)
    return ARTICLES.sub(" ", bare).split()
