"""An answer's sentences and their support, while it is written: what is sent of them, and the verdicts at its end."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.generator.engines.base import TextDelta
from services.generator.grounding.support import Checked, CheckedBy, SupportChecker, Verdict, sentence_spans
from services.generator.streaming.citations import CitationCleaner
from services.generator.streaming.sentence_stream import SentenceStream
from shared.contracts.generation import Unsupported

__all__ = ["Review", "Reviewed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """The verdicts in the order of the text, what they rest on, and the sources that the text as it was sent cites."""

    verdicts: tuple[Verdict, ...]
    by: CheckedBy
    cited: tuple[int, ...]

    @property
    def unsupported(self) -> float:
        """The share of sentences that no source supports, 0 to 1."""
        return sum(not verdict.supported for verdict in self.verdicts) / (len(self.verdicts) or 1)


class Review:
    """Goes over one answer, after its citations were cleaned.

    DROP holds back one sentence at a time and leaves out what is not supported. `attribute` does so too, and gives a
    sentence that cites nothing the citation of the source that supports it best. Otherwise deltas pass at once.
    `quotes` says that every sentence is quoted from the source that it cites: nothing is checked. `shown` is text of
    this answer that the reader has already.
    """

    def __init__(
        self,
        checker: SupportChecker,
        sources: Sequence[int],
        policy: Unsupported,
        *,
        attribute: bool = False,
        quotes: bool = False,
        shown: str = "",
    ) -> None:
        self._checker = checker
        self._sources = sources
        self._drops = policy is Unsupported.DROP and not quotes
        self._attributes = attribute and not quotes
        self._quotes = quotes
        self._sentences = SentenceStream() if self._drops or self._attributes else None
        self._text = shown
        self._dropped: list[Verdict] = []

    async def feed(self, delta: TextDelta) -> list[TextDelta]:
        """What to send after this delta."""
        if self._sentences is not None:
            return await self._passed(self._sentences.feed(delta))
        self._text += delta.text
        return [delta]

    async def flush(self) -> list[TextDelta]:
        """What was held back, at the end of the answer."""
        return await self._passed(self._sentences.flush()) if self._sentences is not None else []

    async def end(self) -> Reviewed:
        """The verdicts on the whole answer. To be called after `flush`."""
        checked = self._quoted() if self._quotes else await self._checker.check(self._text)
        cleaner = CitationCleaner(self._sources)
        cleaner.resume(self._text)
        verdicts = sorted((*checked.verdicts, *self._dropped), key=lambda one: (one.start, one.end))
        return Reviewed(verdicts=tuple(verdicts), by=checked.by, cited=cleaner.used)

    async def _passed(self, pieces: Sequence[TextDelta]) -> list[TextDelta]:
        return [passed for piece in pieces if (passed := await self._judged(piece)) is not None]

    async def _judged(self, piece: TextDelta) -> TextDelta | None:
        """The piece as it is sent; None where it is left out. It holds one sentence at most."""
        text = piece.text if self._text else piece.text.lstrip()
        for verdict in (await self._checker.check(text)).verdicts[-1:]:
            if self._drops and not verdict.supported:
                self._dropped.append(replace(verdict, start=len(self._text), end=len(self._text)))
                return None
            if self._attributes and verdict.supported and verdict.sources and not _cites(verdict.sentence):
                citation = f" [{verdict.sources[0]}]"
                text = text[: verdict.end] + citation + text[verdict.end :]
                self._checker.know(replace(verdict, sources=verdict.sources[:1]), verdict.sentence + citation)
        self._text += text
        return replace(piece, text=text)

    def _quoted(self) -> Checked:
        spans = sentence_spans(self._text)
        return Checked(tuple(_quote(self._text[start:end], start) for start, end in spans), CheckedBy.QUOTES)


def _cites(sentence: str) -> tuple[int, ...]:
    cleaner = CitationCleaner(range(1, 1000))
    cleaner.resume(sentence)
    return cleaner.used


def _quote(sentence: str, start: int) -> Verdict:
    return Verdict(
        sentence=sentence, start=start, end=start + len(sentence), supported=True, score=1.0, sources=_cites(sentence)
    )
