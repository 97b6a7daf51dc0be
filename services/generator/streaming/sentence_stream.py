"""An answer's deltas sentence by sentence, for those who look at each sentence before it is sent."""

from dataclasses import dataclass

from services.generator.engines.base import TextDelta
from services.generator.grounding.support import sentence_spans

__all__ = ["SentenceStream"]


@dataclass(frozen=True, slots=True)
class _Held:
    delta: TextDelta
    end: int


class SentenceStream:
    """Takes deltas and gives whole sentences, each with the white space and the code before it.

    Tokens and log-probabilities go with the sentence in which the text of their delta ends, so they are only near their
    text. A delta without text passes at once where nothing is held back.
    """

    def __init__(self) -> None:
        self._text = ""
        self._held: list[_Held] = []

    def feed(self, delta: TextDelta) -> list[TextDelta]:
        """The sentences that are complete after this delta: where another one has begun, or a line ended."""
        if not delta.text and not self._held:
            return [delta]
        self._text += delta.text
        self._held.append(_Held(delta, len(self._text)))
        spans = sentence_spans(self._text)
        complete = [end for (_, end) in spans[:-1]]
        if spans and "\n" in self._text[spans[-1][1] :]:
            complete.append(spans[-1][1])
        return self._cut(complete)

    def flush(self) -> list[TextDelta]:
        """What was held back, at the end of the answer."""
        return self._cut([end for _, end in sentence_spans(self._text)][:-1], last=True)

    def _cut(self, ends: list[int], *, last: bool = False) -> list[TextDelta]:
        pieces, start = [], 0
        for end in ends:
            pieces.append(self._piece(start, end))
            start = end
        if last and (self._held or self._text[start:]):
            pieces.append(self._piece(start, len(self._text)))
            start = len(self._text)
        self._text = self._text[start:]
        self._held = [_Held(one.delta, one.end - start) for one in self._held]
        return pieces

    def _piece(self, start: int, end: int) -> TextDelta:
        going = [one.delta for one in self._held if one.end <= end]
        self._held = [one for one in self._held if one.end > end]
        return TextDelta(
            text=self._text[start:end],
            reasoning="".join(delta.reasoning for delta in going),
            tool_calls=tuple(call for delta in going for call in delta.tool_calls),
            logprobs=tuple(logprob for delta in going for logprob in delta.logprobs),
            tokens=tuple(token for delta in going for token in delta.tokens),
        )
