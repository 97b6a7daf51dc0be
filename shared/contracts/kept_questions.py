"""Kept answers as services besides the gateway read them: what was asked, and how well what was found scores.

The gateway writes these records, with more members, as `sluice.api.feedback` describes them.
"""

from pydantic import BaseModel, ConfigDict, JsonValue

__all__ = ["KeptQuestion"]


class _Record(BaseModel):
    """Without what nobody here reads, since many are looked at."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ScoredSource(_Record):
    score: float = 0.0


class SearchedQuestion(_Record):
    question: str = ""


class KeptQuestion(_Record):
    """A question to a collection, asked at the Unix time `asked_at`. `messages` are the turns before it, and `searched`
    is the question on its own, where the platform has rewritten it."""

    id: str
    question: str = ""
    messages: tuple[dict[str, JsonValue], ...] = ()
    searched: SearchedQuestion | None = None
    collection: str = ""
    asked_at: float = 0.0
    sources: tuple[ScoredSource, ...] = ()
    confidence: float | None = None

    @property
    def standalone(self) -> str:
        """The question as it is understood without the turns before it; "" where nobody knows."""
        rewritten = self.searched.question if self.searched else ""
        return rewritten or ("" if self.messages else self.question)

    @property
    def best_score(self) -> float | None:
        """That of the best source, 0 to 1; None without sources."""
        return max((source.score for source in self.sources), default=None)
