"""Judges what came back of each query and each job. Pure: what happened comes in as records."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos.expected_answers import answer_to, embedding_of, passages_for
from tests.chaos.plan import GENTLE

__all__ = ["ALLOWED", "Asked", "Oracle", "Trouble", "judge_answer", "judge_problem", "judge_start"]

URN: Final = "urn:sluice:problem:"

REFUSALS: Final = frozenset({"queue-full", "rate-limited"})
ALLOWED: Final = frozenset(
    {
        "broker-unavailable",
        "stage-unavailable",
        "deadline-exceeded",
        "answer-interrupted",
        "stage-failed",
        *REFUSALS,
    }
)
"""Problems that a fault may bring about. `internal-error` is a defect, whatever happens."""

LATE: Final = 3.0
"""Seconds past its deadline in which the end of a query must have reached its client."""


@dataclass(slots=True)
class Asked:
    """One query. Times are of the monotonic clock; `timeout` is in seconds."""

    question: str
    tenant: str
    gateway: str
    kind: str
    timeout: float
    sent: float
    ended: float = 0.0
    outcome: str = ""
    """answer, lost (the connection broke), left (the client did), or the code of a problem."""
    fault: str = ""
    """What is wrong with the way in which it ended."""
    round: int = 0

    @property
    def seconds(self) -> float:
        return self.ended - self.sent


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault that was in force until `over`, and whose effects were recovered from at `ended`."""

    kind: str
    target: str
    began: float
    over: float
    ended: float

    def meets(self, since: float, until: float) -> bool:
        return self.began <= until and since <= self.ended


def judge_answer(asked: Asked, answer: str, sources: Sequence[dict[str, Any]]) -> str:
    """What is wrong with an answer of the constant stages; empty where nothing is."""
    passages = passages_for(asked.tenant, asked.question, embedding_of(asked.tenant, asked.question))
    if [source["text"] for source in sources] != passages:
        return f"sources of another query: {[source['text'][:120] for source in sources]}"
    if answer != answer_to(asked.tenant, asked.question, passages):
        return f"not its answer: {answer[:300]!r}"
    return ""


def judge_start(asked: Asked, text: str) -> str:
    """The same for what had come of an answer that broke off."""
    passages = passages_for(asked.tenant, asked.question, embedding_of(asked.tenant, asked.question))
    expected = answer_to(asked.tenant, asked.question, passages)
    return "" if expected.startswith(text) else f"not the beginning of its answer: {text[:300]!r}"


def judge_problem(status: int, media_type: str, body: Any) -> str:
    """What is wrong with a problem (RFC 9457); empty where nothing is. In a stream `status` is its own."""
    if media_type != "application/problem+json":
        return f"{status} is no problem but {media_type}: {str(body)[:200]}"
    if not isinstance(body, dict) or not str(body.get("type", "")).startswith(URN):
        return f"a problem without a type: {body}"
    if body.get("status") != status or not body.get("title") or not body.get("detail"):
        return f"a problem that is not clear: {status} {body}"
    return ""


@dataclass
class Oracle:
    """Everything that was asked, and what is wrong with it. `lag` is how late this process itself was, and when."""

    asked: list[Asked] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    lag: list[tuple[float, float]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(asked.outcome for asked in self.asked)

    def accuse(self, what: str) -> None:
        self.wrong.append(what)

    def judge(self) -> list[str]:
        """Everything that is wrong."""
        for asked in self.asked:
            if fault := asked.fault or self._fault(asked):
                self.wrong.append(
                    f"{asked.kind} query {asked.question!r} of {asked.tenant} by {asked.gateway}: {fault}"
                )
        return self.wrong

    def lateness(self) -> float:
        """Seconds past its deadline at which the latest query ended, without what froze it."""
        overdue = [asked for asked in self.asked if asked.seconds > asked.timeout and asked.kind != "slow-reader"]
        return max((asked.seconds - asked.timeout - self._excused(asked) for asked in overdue), default=0.0)

    def _fault(self, asked: Asked) -> str:
        if not asked.ended:
            return "it has never ended"
        late = asked.seconds - asked.timeout
        if asked.kind == "slow-reader":
            late = 0.0  # what the system has taken for it, it reads when it likes
        if late > LATE and (late := late - self._excused(asked)) > LATE:
            return f"{late:.1f} s late, with {asked.outcome}"
        if asked.outcome == "lost":
            killed = self._met(asked, {"kill"}, asked.gateway)
            return "" if killed else "its connection was lost, and its gateway was not killed"
        if asked.outcome in ("answer", "left"):
            return ""
        if asked.outcome not in ALLOWED:
            return f"it ended in {asked.outcome}"
        return "" if self._may_fail(asked) else f"{asked.outcome} after {asked.seconds:.1f} s, and nothing was wrong"

    def _may_fail(self, asked: Asked) -> bool:
        if asked.kind in ("fail", "die"):
            return True
        if asked.kind in ("flood", "slow-reader"):
            return True
        return any(trouble.meets(asked.sent, asked.ended) for trouble in self.troubles if trouble.kind not in GENTLE)

    def _met(self, asked: Asked, kinds: Iterable[str], target: str = "") -> bool:
        return any(
            trouble.meets(asked.sent - 0.5, asked.ended)
            for trouble in self.troubles
            if trouble.kind in kinds and target in ("", trouble.target)
        )

    def _excused(self, asked: Asked) -> float:
        """Seconds in which the gateway stood still, or this process did not look."""
        frozen = sum(
            max(0.0, min(asked.ended, trouble.over) - max(asked.sent, trouble.began))
            for trouble in self.troubles
            if trouble.kind == "stop" and trouble.target == asked.gateway
        )
        return frozen + sum(late for at, late in self.lag if asked.sent <= at <= asked.ended)
