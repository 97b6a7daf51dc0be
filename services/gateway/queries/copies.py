"""Shadows: copies of queries whose answers no client sees."""

import secrets

from shared.contracts.envelope import Lane, Query
from shared.contracts.graphs.resolve import SHADOW_OF
from shared.nats.subjects import reply_subject

__all__ = ["shadow_of"]


def shadow_of(live: Query, query: Query, instance: str) -> Query:
    """`query` as a shadow of the live one: a query of its own, with its own replies to the gateway `instance`, on the
    batch lane, until the live one's deadline. Stages tell it by a note."""
    name = f"shadow-{secrets.token_hex(8)}"
    return query.model_copy(
        update={
            "id": name,
            "lane": Lane.BATCH,
            "reply": reply_subject(instance, name),
            "asked_at": live.asked_at,
            "deadline": live.deadline,
            "attempt": 1,
            "notes": {**query.notes, SHADOW_OF: live.id},
        }
    )
