"""How hard the fuzz tests try: a fixed number of examples in `make test`, rounds of them for minutes in `make fuzz`.

In the short run the examples are the same each time. In the long one each round has a seed that follows from the run's
seed, the test and the number of the round, so any round can be had again.
"""

import hashlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import hypothesis
from hypothesis import HealthCheck, Phase, settings

__all__ = ["LONG", "SEED", "Tally", "example_began", "fuzzed", "outcome", "play", "saw", "tallies"]

LONG: Final = os.environ.get("SLUICE_FUZZ") == "long"
SEED: Final = int(os.environ.get("SLUICE_FUZZ_SEED", "0"))
ROUND: Final = os.environ.get("SLUICE_FUZZ_ROUND")
"""The one round that is played again."""

EXAMPLES_A_ROUND: Final = 100

PLAIN: Final = (str, bytes, int, float, dict, list, tuple)
"""Types of what is generated; other arguments are fixtures."""

Test = TypeVar("Test", bound=Callable[..., Any])


@dataclass
class Tally:
    """What one test has seen: its examples, how they came out, and the one that took longest."""

    examples: int = 0
    rounds: int = 0
    slowest: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    example: dict[str, Any] = field(default_factory=dict)
    began: float = 0.0


seconds_each = 60.0
"""Seconds for each test of the long run."""

tallies: dict[str, Tally] = {}
_playing: list[Tally] = []


def fuzzed(examples: int) -> Callable[[Test], Test]:
    """So many examples of a Hypothesis test in the short run, always the same; any number in the long one."""
    return settings(
        max_examples=EXAMPLES_A_ROUND if LONG else examples,
        derandomize=not LONG,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        print_blob=False,
    )


def saw(outcome: str) -> None:
    """Count how an example came out, so that a test that always sees the same is noticed."""
    if _playing:
        _playing[-1].outcomes[outcome] += 1


def example_began() -> None:
    """Call it first in each example."""
    if not _playing:
        return
    tally, now = _playing[-1], time.monotonic()
    if tally.examples:
        tally.slowest = max(tally.slowest, now - tally.began)
    tally.examples += 1
    tally.began = now
    # What Hypothesis says of an example leaves out the values where it runs within pytest.
    tally.example = dict(sys._getframe(1).f_locals)


def outcome(call: Callable[[], Any], *refusals: type[Exception]) -> Any:
    """What the call returns, or which of these refusals it raises."""
    try:
        return call()
    except refusals as refusal:
        return refusal


def play(name: str, test: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Play a test: once in the short run, else in rounds for as long as it has."""
    tally = tallies.setdefault(name, Tally())
    _playing.append(tally)
    try:
        if not LONG:
            test(**arguments)
            return
        ends = time.monotonic() + seconds_each
        while tally.rounds == 0 or (ROUND is None and time.monotonic() < ends):
            number = tally.rounds if ROUND is None else int(ROUND)
            hypothesis.seed(_seed(name, number))(test)(**arguments)
            tally.rounds += 1
    except Exception as error:
        smallest = [f"{name} = {value!r}"[:4000] for name, value in tally.example.items() if isinstance(value, PLAIN)]
        tally.findings = [*_told(error), "The smallest example of the last of them:", *smallest]
        tally.findings = ["\n".join(tally.findings)]
        print(*tally.findings, sep="\n")
        raise
    finally:
        _playing.pop()


def _told(error: BaseException) -> Iterator[str]:
    """Each failure and its smallest example, which Hypothesis adds as a note."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _told(each)
    else:
        yield "\n".join([f"{type(error).__name__}: {str(error)[:500]}", *getattr(error, "__notes__", ())])


def _seed(name: str, number: int) -> int:
    digest = hashlib.sha256(f"{SEED} {name} {number}".encode()).digest()
    return int.from_bytes(digest[:8], "big")
