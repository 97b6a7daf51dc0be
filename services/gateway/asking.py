"""From what a client asks to the envelope of the query, whichever face of the API it came through."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from services.gateway.backend import TENANT, Desk
from services.gateway.pipelines import DEFAULT
from services.gateway.settings import GatewaySettings
from shared.envelope import Message, Query
from shared.generation import GenerateParams
from shared.problems import Problem, ProblemType
from shared.records import Collection
from shared.reply import reply_subject

__all__ = ["Asking", "checked_timeout", "compose"]

SHORTEST_TIMEOUT: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A question about a collection, checked. `messages` are the turns before it; `timeout` is in seconds.

    `conversation` is what all questions of one conversation have in common, so that they all go to the same variants;
    without it each question goes its own way. `generate` goes before what the pipeline says about generation.
    """

    question: str
    collection: Collection
    timeout: float
    messages: tuple[Message, ...] = ()
    pipeline: str | None = None
    top_k: int | None = None
    default_top_k: int = 5
    filter: Mapping[str, JsonValue] | None = None
    conversation: str | None = None
    generate: GenerateParams = GenerateParams()


def compose(desk: Desk, asking: Asking) -> Query:
    """The envelope with its slip. Raises Problem PIPELINE_NOT_FOUND or INVALID_FILTER."""
    now = time.time()
    # Sorts by time, which makes logs easier to read.
    query_id = f"{int(now * 1000):011x}{secrets.token_hex(6)}"
    slip = desk.pipelines.slip(
        asking.pipeline or asking.collection.pipeline or DEFAULT,
        top_k=asking.top_k,
        default_top_k=asking.default_top_k,
        narrower=asking.filter,
    )
    written = asking.generate.encode()
    return Query(
        id=query_id,
        tenant=TENANT,
        asked_at=now,
        deadline=now + asking.timeout,
        reply=reply_subject(desk.settings.instance, query_id),
        slip=tuple(stop.with_params(**written) if stop.stage == "generate" else stop for stop in slip),
        question=asking.question,
        messages=asking.messages,
        collection=asking.collection.table,
    )


def checked_timeout(timeout: float | None, settings: GatewaySettings) -> float:
    """Seconds that a query may take. Raises Problem INVALID_REQUEST."""
    if timeout is None:
        return settings.default_timeout
    longest = settings.longest_deadline
    if not SHORTEST_TIMEOUT <= timeout <= longest:
        raise Problem(
            ProblemType.INVALID_REQUEST,
            f"timeout must be {SHORTEST_TIMEOUT:g} to {longest:g} seconds, not {timeout:g}.",
        )
    return timeout
