"""What one key may do in a minute, as token buckets in this process: each gateway counts for itself."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Final

from shared.contracts.problems import Problem, ProblemType

__all__ = ["Bucket", "Limits"]

MINUTE: Final = 60.0

Clock = Callable[[], float]


class Bucket:
    """Fills up at an even rate, to what a minute brings; may go below zero, which is filled up first."""

    def __init__(self, per_minute: int, clock: Clock = time.monotonic) -> None:
        self.per_minute = per_minute
        self._rate = per_minute / MINUTE
        self._clock = clock
        self._level = float(per_minute)
        self._at = clock()

    @property
    def level(self) -> float:
        now = self._clock()
        self._level = min(float(self.per_minute), self._level + (now - self._at) * self._rate)
        self._at = now
        return self._level

    def spend(self, amount: float) -> None:
        """Take an amount out, even where it is more than the level."""
        self._level = self.level - amount

    def wait(self, amount: float) -> float:
        """Seconds until the bucket holds an amount; 0 where it does."""
        return max(0.0, amount - self.level) / self._rate

    def state(self, name: str) -> str:
        """The item of the header `RateLimit`: what is left, and the seconds until the bucket is full again."""
        level = self.level
        full = math.ceil((self.per_minute - level) / self._rate)
        return f'"{name}";r={max(0, int(level))};t={full}'

    def policy(self, name: str) -> str:
        return f'"{name}";q={self.per_minute};w={MINUTE:.0f}'


class Limits:
    """The limits of one key; None is no limit. The tokens of an answer are known at its end, so a key
    with one token left may still send a request, and waits the longer afterwards."""

    def __init__(self, requests: int | None, tokens: int | None, clock: Clock = time.monotonic) -> None:
        self.requests = Bucket(requests, clock) if requests else None
        self.tokens = Bucket(tokens, clock) if tokens else None

    def equal(self, requests: int | None, tokens: int | None) -> bool:
        """Whether these are the limits that this object counts."""
        counted = tuple(bucket.per_minute if bucket else None for bucket in (self.requests, self.tokens))
        return counted == (requests, tokens)

    def admit(self) -> None:
        """Count a request. Raises Problem RATE_LIMITED for one too many, which is not counted."""
        if self.tokens is not None and (wait := self.tokens.wait(1)):
            raise _exceeded(f"{self.tokens.per_minute:,} tokens", wait)
        if self.requests is not None:
            if wait := self.requests.wait(1):
                raise _exceeded(f"{self.requests.per_minute:,} requests", wait)
            self.requests.spend(1)

    def spend(self, tokens: int) -> None:
        """Count the tokens of an answer."""
        if self.tokens is not None:
            self.tokens.spend(tokens)

    def headers(self) -> Iterator[tuple[bytes, bytes]]:
        """The headers about the limits (draft-ietf-httpapi-ratelimit-headers-10)."""
        named = [(n, b) for n, b in (("requests", self.requests), ("tokens", self.tokens)) if b is not None]
        if named:
            yield b"ratelimit-policy", ", ".join(bucket.policy(name) for name, bucket in named).encode()
            yield b"ratelimit", ", ".join(bucket.state(name) for name, bucket in named).encode()


def _exceeded(what: str, wait: float) -> Problem:
    seconds = max(1, math.ceil(wait))
    return Problem(
        ProblemType.RATE_LIMITED,
        f"This API key has {what} a minute. Try again in {seconds} s.",
        headers={"Retry-After": str(seconds)},
    )
