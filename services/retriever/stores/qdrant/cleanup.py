"""Removes what no reader can see any more, and what commits have left that did not end."""

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

from qdrant_client import models

from services.retriever.stores.qdrant.connection import AbsentError, Connection
from services.retriever.stores.qdrant.layout import (
    CHUNKS,
    ENDED_MS,
    FOREVER,
    SINCE,
    TABLE,
    UNTIL,
    WRITTEN_MS,
    Layout,
)
from services.retriever.stores.qdrant.state import TableState
from services.retriever.stores.qdrant.tables import Tables
from services.retriever.stores.qdrant.view import View, equals, one_of

__all__ = ["REMEMBERED", "clean", "drop_points"]

REMEMBERED: Final = timedelta(minutes=10)
"""How long a commit that was given up is: what its writer has under way may still arrive until then."""

CLEANED_SECONDS: Final = 60.0
"""Of one request that removes points."""


async def clean(
    connection: Connection,
    layout: Layout,
    tables: Tables,
    name: str,
    *,
    keep_versions: timedelta,
    keep_tombstones: timedelta,
) -> None:
    """May run beside writers and readers, and in several processes."""
    state = await tables.get(name, anew=True)
    if state is None:
        return
    now = time.time()
    places = (layout.documents, layout.passages(state.dimension))
    await _forget_given_up(connection, tables, name, state, places, until=now - REMEMBERED.total_seconds())
    ended = models.Filter(
        must=[
            equals(TABLE, state.id),
            models.FieldCondition(key=UNTIL, range=models.Range(lte=state.version)),
            models.FieldCondition(key=ENDED_MS, range=models.Range(lt=1_000 * (now - keep_versions.total_seconds()))),
        ],
        must_not=[one_of(UNTIL, list(state.given_up))] if state.given_up else None,
    )
    for place in places:
        await _delete(connection, place, ended)
    written = models.Range(lt=1_000 * (now - keep_tombstones.total_seconds()))
    tombstones = View(state).filter(
        models.FieldCondition(key=CHUNKS, range=models.Range(lte=0)),
        models.FieldCondition(key=WRITTEN_MS, range=written),
    )
    await _delete(connection, layout.documents, tombstones)


async def drop_points(connection: Connection, layout: Layout, state: TableState) -> None:
    """Remove all points of a table."""
    where = models.Filter(must=[equals(TABLE, state.id)])
    for place in (layout.passages(state.dimension), layout.documents):
        await _delete(connection, place, where)


async def _forget_given_up(
    connection: Connection,
    tables: Tables,
    name: str,
    state: TableState,
    places: Sequence[str],
    *,
    until: float,
) -> None:
    """Undo what commits have written that were given up before `until`, and forget them."""
    old = [commit for commit, given_up in state.given_up.items() if given_up < until]
    if not old:
        return
    for place in places:
        await _delete(connection, place, models.Filter(must=[equals(TABLE, state.id), one_of(SINCE, old)]))
        goes_on = models.Filter(must=[equals(TABLE, state.id), one_of(UNTIL, old)])
        await connection.call(
            lambda client, place=place, goes_on=goes_on: client.set_payload(  # type: ignore[misc]
                place, {UNTIL: FOREVER}, points=goes_on, wait=True
            ),
            seconds=CLEANED_SECONDS,
        )

    def forgotten(newest: TableState) -> TableState:
        left = {commit: at for commit, at in newest.given_up.items() if commit not in old}
        return newest.model_copy(update={"given_up": left})

    await tables.change(name, forgotten)


async def _delete(connection: Connection, place: str, where: models.Filter) -> None:
    with suppress(AbsentError):
        await connection.call(
            lambda client: client.delete(place, points_selector=models.FilterSelector(filter=where), wait=True),
            seconds=CLEANED_SECONDS,
        )
