"""Reads a Lance table for the serving index: all of it, or what it has got since a snapshot.

Lance gives the rows of a commit greater addresses than any before, and so it does with rows that a compaction moves. So
what is new is above the greatest address that is known. What has gone without a newer row in its place, which this
store never does, shows in the number of rows.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
from lancedb.table import AsyncTable
from numpy.typing import NDArray

from services.retriever.serving.merging import FULL_ROWS, merge_small
from services.retriever.serving.segment import Segment
from services.retriever.serving.snapshot import Origin, RowHeads, Snapshot
from services.retriever.serving.vectors import Vectors, quantize
from services.retriever.stores.documents import analyze
from services.retriever.stores.lance.rows import ALIVE, TERMS, columns_of, dimension_of, table_id

__all__ = ["follow_table", "load_table", "origin_of"]

log = logging.getLogger(__name__)

HEADS: Final = ["id", "revision", "written_ms", "position"]
ADDRESS: Final = "_rowid"
VECTOR: Final = "vector"

Quantized: TypeAlias = tuple[NDArray[np.int16], NDArray[np.float32]]


async def origin_of(table: AsyncTable) -> Origin:
    """Of the newest version, to which the handle is tied from now on: it must be nobody else's."""
    version = await table.version()
    await table.checkout(version)
    schema = await table.schema()
    return Origin(
        table=table_id(schema),
        version=version,
        schema=schema,
        columns=columns_of(schema),
        dimension=dimension_of(schema),
    )


async def load_table(table: AsyncTable, origin: Origin) -> Snapshot:
    """Read the whole table at the version of its handle."""
    segments: list[Segment] = []
    last_row, total, read = -1, await table.count_rows(ALIVE), 0
    mean = None
    async for rows, vectors, last in _blocks(table):
        segment = await asyncio.to_thread(_segment, rows, vectors, mean)
        mean = segment.vectors.mean
        segments.append(segment)
        last_row, read = max(last_row, last), read + len(segment)
        if total > FULL_ROWS:
            log.info("read %s of %s passages of %s into memory", f"{read:,}", f"{total:,}", table.name)
    snapshot = await asyncio.to_thread(Snapshot.of, replace(origin, last_row=last_row), segments)
    return replace(snapshot, origin=replace(snapshot.origin, doubled=total - snapshot.passages))


async def follow_table(table: AsyncTable, origin: Origin, snapshot: Snapshot) -> Snapshot | None:
    """The snapshot at the version of the handle; None where only reading the whole table tells it."""
    known = snapshot.origin.last_row
    heads = await table.query().where(f"{ADDRESS} >= {known + 1}").with_row_id().select(HEADS).to_arrow()
    wanted, ended = await asyncio.to_thread(_news, snapshot, heads)
    addresses = np.asarray(heads[ADDRESS].to_numpy(), dtype=np.int64)
    fresh = await _fresh(table, addresses[wanted], snapshot)
    last_row = max(known, int(addresses.max(initial=-1)))
    origin = replace(origin, last_row=last_row, doubled=snapshot.origin.doubled)
    new = await asyncio.to_thread(lambda: merge_small(snapshot.following(origin, ended, fresh)))
    return new if new.passages + origin.doubled == await table.count_rows(ALIVE) else None


def _news(snapshot: Snapshot, heads: pa.Table) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    return snapshot.news(RowHeads.of(heads))


async def _fresh(table: AsyncTable, addresses: NDArray[np.int64], snapshot: Snapshot) -> Segment | None:
    if not len(addresses):
        return None
    query = table.take_row_ids([int(address) for address in addresses]).select(_columns(await table.schema()))
    found = await query.to_arrow()
    mean = snapshot.segments[0].vectors.mean if snapshot.segments else None
    return await asyncio.to_thread(lambda: _segment([_texts(found)], [_vectors(found)], mean))


def _segment(rows: Sequence[pa.Table], vectors: Sequence[Quantized], mean: NDArray[np.float32] | None) -> Segment:
    values, scales = (np.concatenate(parts) for parts in zip(*vectors, strict=True))
    whole = pa.concat_tables(rows, promote_options="default")
    return Segment.build(whole, Vectors.of(values, scales, mean))


async def _blocks(table: AsyncTable) -> AsyncIterator[tuple[list[pa.Table], list[Quantized], int]]:
    """The rows that are alive, in blocks of about FULL_ROWS, with the greatest address in each."""
    query = table.query().where(ALIVE).with_row_id().select(_columns(await table.schema()))
    rows: list[pa.Table] = []
    vectors: list[Quantized] = []
    count, last = 0, -1
    async for batch in await query.to_batches():
        part = pa.Table.from_batches([batch])
        if not part.num_rows:
            continue
        last = max(last, int(part[ADDRESS].to_numpy().max()))
        texts, encoded = await asyncio.to_thread(_parts, part)
        rows.append(texts)
        vectors.append(encoded)
        count += part.num_rows
        if count >= FULL_ROWS:
            yield rows, vectors, last
            rows, vectors, count = [], [], 0
    if rows:
        yield rows, vectors, last


def _parts(found: pa.Table) -> tuple[pa.Table, Quantized]:
    return _texts(found), _vectors(found)


def _columns(schema: pa.Schema) -> list[str]:
    return list(schema.names)


def _texts(found: pa.Table) -> pa.Table:
    """Without vectors and addresses; strings may be longer than two gigabytes together, and no terms are missing."""
    names = [name for name in found.column_names if name not in (VECTOR, ADDRESS)]
    rows = found.select(names)
    if TERMS not in names or rows[TERMS].null_count:
        given = rows[TERMS].to_pylist() if TERMS in names else [None] * rows.num_rows
        texts = rows["text"].to_pylist()
        filled = [analyze(text) if terms is None else terms for terms, text in zip(given, texts, strict=True)]
        rows = (rows.drop_columns([TERMS]) if TERMS in names else rows).append_column(TERMS, pa.array(filled))
    schema = pa.schema(
        [pa.field(field.name, pa.large_string() if field.type == pa.string() else field.type) for field in rows.schema]
    )
    return rows.cast(schema)


def _vectors(found: pa.Table) -> Quantized:
    column = found[VECTOR].combine_chunks()
    flat = np.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype=np.float32)
    return quantize(flat.reshape(len(column), -1))
