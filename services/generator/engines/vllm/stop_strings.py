"""Stop strings: the answer ends before the first of them, and none of its beginning is shown.

vLLM can look for them too, but then the text lags behind its tokens. Here a piece is shown whole, with its tokens, or
not yet: whoever goes on from what was shown has exactly the tokens for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from shared.contracts.generation import TokenLogprob

__all__ = ["StopStringFilter", "Piece"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of the answer and the tokens that spell it."""

    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class StopStringFilter:
    """Lets pieces through until a stop string is complete; `stopped` says that it was.

    The first `min_tokens` tokens pass unseen. A piece waits while its end may be the beginning of a stop string.
    """

    def __init__(self, stop: Sequence[str], *, min_tokens: int = 0) -> None:
        self._stop = tuple(one for one in stop if one)
        self._unseen = min_tokens
        self._waiting: list[Piece] = []
        self.stopped = False

    def feed(self, piece: Piece) -> list[Piece]:
        """What may be shown now."""
        if not self._stop:
            return [piece]
        if self._unseen > 0:
            self._unseen -= len(piece.tokens)
            return [piece]
        self._waiting.append(piece)
        text = "".join(one.text for one in self._waiting)
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.stopped = True
            return self._take(min(found), cut=True)
        return self._take(len(text) - max(_begun(text, stop) for stop in self._stop), cut=False)

    def flush(self) -> list[Piece]:
        """What still waited, at the end of the answer."""
        waiting, self._waiting = self._waiting, []
        return [] if self.stopped else waiting

    def _take(self, end: int, *, cut: bool) -> list[Piece]:
        """The pieces that lie before `end`; `cut` takes the beginning of the one across it as well, without tokens."""
        taken: list[Piece] = []
        while self._waiting and len(self._waiting[0].text) <= end:
            piece = self._waiting.pop(0)
            end -= len(piece.text)
            taken.append(piece)
        if cut and end > 0:
            taken.append(replace(self._waiting[0], text=self._waiting[0].text[:end], tokens=()))
        return taken


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of the text are the beginning of the stop string."""
    return next((length for length in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:length])), 0)
