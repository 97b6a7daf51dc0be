"""What a store has found out about the terms of a table, and until when that counts.

A frequency below COUNTED counts as long as the table has not changed; a common one and the averages count for a while.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from services.retriever.stores.limits import COMMON_SECONDS, COUNTED, SPOKEN
from shared.analysis.languages import Language, detect_language

__all__ = ["Sample", "TermFrequencies", "is_like", "sample_of", "spoken_languages"]

KEPT_TERMS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Sample:
    """What a sample tells of a table that had so many passages then: how many terms a passage has on average, and the
    languages, the most common one first."""

    average_length: float
    languages: tuple[Language, ...]
    passages: int
    until: float

    def counts(self, passages: int, now: float) -> bool:
        """Whether it tells of the table now that it has so many passages."""
        return now <= self.until and is_like(self.passages, passages)


class TermFrequencies:
    """In how many passages forms are, of those that were looked up last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[int, int, float]] = OrderedDict()
        """By form: its frequency, the table's version at that time, and until when a common one counts."""

    def unknown(self, forms: Iterable[str], version: int, now: float) -> list[str]:
        """Those of the forms that are to be looked up."""
        return [form for form in forms if not self._is_known(form, version, now)]

    def note(self, form: str, frequency: int, version: int, now: float) -> None:
        self._kept[form] = (frequency, version, now + COMMON_SECONDS)

    def of(self, forms: Iterable[str]) -> dict[str, int]:
        """The frequencies of forms that are known."""
        frequencies = {form: self._kept[form][0] for form in forms}
        while len(self._kept) > KEPT_TERMS:
            self._kept.popitem(last=False)
        return frequencies

    def _is_known(self, form: str, version: int, now: float) -> bool:
        if (kept := self._kept.get(form)) is None:
            return False
        self._kept.move_to_end(form)
        frequency, of_version, until = kept
        return of_version == version or (frequency >= COUNTED and now < until)


def is_like(before: int, now: int) -> bool:
    """Whether a table has so many passages now that what was found out before still tells of it."""
    return 0.8 * before <= now <= 1.25 * before


def sample_of(texts: Sequence[str], terms: Iterable[str], passages: int, now: float) -> Sample:
    """What some passages tell of a table; `terms` are those of each text, with a space between them."""
    lengths = [each.count(" ") + 1 for each in terms]
    average = sum(lengths) / len(lengths) if lengths else 1.0
    return Sample(average, spoken_languages(texts), passages, now + COMMON_SECONDS)


def spoken_languages(texts: Sequence[str]) -> tuple[Language, ...]:
    """The languages of a sample, the most common one first, but those of very few of its texts."""
    spoken = Counter(map(detect_language, texts))
    return tuple(language for language, count in spoken.most_common() if count >= SPOKEN * len(texts))
