"""Citations in a streamed answer: `[2]` or `[1, 3]` may stay only where it points at a source."""

import re
from collections.abc import Collection

__all__ = ["CitationCleaner"]

LONGEST = 40  # characters between the brackets; more is no citation

_NUMBERS = r"[0-9,; ]"
_TOKEN = re.compile(rf"`|( ?)\[(?={_NUMBERS}{{1,{LONGEST}}}\])(\d+(?: *[,;] *\d+)*)\]")
_UNDECIDED = re.compile(rf" ?(?:\[{_NUMBERS}{{0,{LONGEST}}})?$")


class CitationCleaner:
    """Removes citations of anything but `sources` from a stream of deltas, and remembers the ones that stay.

    However the text is cut into deltas, the pieces returned add up to the same text. At most `LONGEST` + 2
    characters are held back, and only while they may become a citation. Code between backticks is left alone.
    """

    def __init__(self, sources: Collection[int]) -> None:
        self._sources = frozenset(sources)
        self._held = ""
        self._code = False
        self._used: dict[int, None] = {}

    @property
    def used(self) -> tuple[int, ...]:
        """Sources cited so far, counted from 1, in the order of their first mention."""
        return tuple(self._used)

    @property
    def holds(self) -> bool:
        """Whether it holds back text that it was fed."""
        return bool(self._held)

    def resume(self, shown: str) -> None:
        """Go on after text that another cleaner of the same answer has shown. To be called before `feed`."""
        self.feed(shown)
        self.flush()

    def feed(self, delta: str) -> str:
        """What may be shown after this delta; may be empty."""
        text = self._held + delta
        undecided = _UNDECIDED.search(text)
        end = undecided.start() if undecided else len(text)
        self._held = text[end:]
        return _TOKEN.sub(self._decide, text[:end])

    def flush(self) -> str:
        """What was held back, at the end of the answer."""
        held, self._held = self._held, ""
        return held

    def _decide(self, match: re.Match[str]) -> str:
        if match[0] == "`":
            self._code = not self._code
            return "`"
        if self._code:
            return match[0]
        cited = [int(number) for number in re.findall(r"\d+", match[2])]
        good = [number for number in cited if number in self._sources]
        self._used.update(dict.fromkeys(good))
        if good == cited:
            return match[0]
        return f"{match[1]}[{', '.join(map(str, good))}]" if good else ""
