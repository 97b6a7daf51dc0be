"""From what goes wrong at the model server to problems; none of them quotes the key."""

import random
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from shared.contracts.problems import Problem, ProblemType

if TYPE_CHECKING:
    import openai

__all__ = ["UpstreamError", "explain", "failed", "retry_delay"]

LONGEST_MESSAGE: Final = 300
"""Characters of what the server said that are passed on."""

FIRST_DELAY: Final = 0.25
LONGEST_DELAY: Final = 8.0
LONGEST_RETRY_AFTER: Final = 30.0
"""Seconds. A server that wants to be left alone for longer is not waited for."""

_TOO_LONG = re.compile(
    r"context[ _](?:length|window|size)|maximum (?:model|context|input)|max_model_len|prompt is too long"
    r"|too many (?:input )?tokens|`?inputs`? (?:tokens|must have less)",
    re.IGNORECASE,
)
_RETRYABLE = frozenset({408, 409, 425, 429})


class UpstreamError(Exception):
    """One request failed with `problem`. `retryable` says whether the same request may succeed a little later, and
    `retry_after` after how many seconds, where the server said."""

    def __init__(self, problem: Problem, *, retryable: bool = False, retry_after: float | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.retryable = retryable and (retry_after is None or retry_after <= LONGEST_RETRY_AFTER)
        self.retry_after = retry_after


def failed(detail: str, **extras: Any) -> Problem:
    return Problem(ProblemType.ENGINE_FAILED, detail, **extras)


def retry_delay(error: UpstreamError, tries: int) -> float:
    """Seconds to wait after so many tries: what the server asked for, or twice as long each time, with jitter."""
    jitter = random.uniform(0.5, 1.0)  # noqa: S311
    if error.retry_after is not None:
        return error.retry_after + FIRST_DELAY * jitter
    return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (tries - 1)) * jitter


def explain(error: "openai.OpenAIError", secret: str) -> UpstreamError:
    """`secret` is replaced wherever the server quotes it."""
    import openai

    said = _safe(_message(error), secret)
    if isinstance(error, openai.APIStatusError):
        return _for_status(error.status_code, said, error.code, _retry_after(error.response.headers))
    if isinstance(error, openai.APIConnectionError):
        cause = type(error.__cause__).__name__ if error.__cause__ else "no connection"
        return UpstreamError(failed(f"The connection to the model server failed ({cause})."), retryable=True)
    if isinstance(error, openai.APIError) and (status := _status_of(error)) is not None:
        return _for_status(status, said, error.code, None)
    return UpstreamError(failed(f"The model server reported an error: {said}"))


def _for_status(status: int, said: str, code: str | None, retry_after: float | None) -> UpstreamError:
    extras: dict[str, Any] = {"upstream_status": status}
    answered = f"The model server answered {status}: {said}"
    if status in {400, 413, 422}:
        too_long = code == "context_length_exceeded" or _TOO_LONG.search(said)
        kind = ProblemType.CONTEXT_EXCEEDED if too_long else ProblemType.INVALID_REQUEST
        return UpstreamError(Problem(kind, answered, **extras))
    if status in {401, 403}:
        return UpstreamError(failed(f"The model server refuses the key (SLUICE_OPENAI_API_KEY): {said}", **extras))
    if status == 429 and code != "insufficient_quota":
        if retry_after is not None:
            extras["retry_after"] = -int(-retry_after // 1)
        return UpstreamError(
            Problem(ProblemType.ENGINE_BUSY, answered, **extras), retryable=True, retry_after=retry_after
        )
    retryable = status >= 500 or status in _RETRYABLE - {429}
    return UpstreamError(failed(answered, **extras), retryable=retryable, retry_after=retry_after)


def _message(error: "openai.OpenAIError") -> str:
    """What the server said, without what the client writes around it."""
    body = getattr(error, "body", None)
    said = body.get("message") if isinstance(body, dict) else None
    return said if isinstance(said, str) and said else str(error)


def _status_of(error: "openai.APIError") -> int | None:
    """The HTTP status that an error within a stream gives itself."""
    code = error.body.get("code") if isinstance(error.body, dict) else None
    return int(code) if isinstance(code, int) or (isinstance(code, str) and code.isdigit()) else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds; a date instead of a number is not understood."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    return None


def _safe(message: str, secret: str) -> str:
    message = " ".join(message.split())
    if secret:
        message = message.replace(secret, "***")
    return message[:LONGEST_MESSAGE]
