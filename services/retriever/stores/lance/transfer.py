"""Tables of the index as Arrow files and back, for backups: the rows, without the indices, which are made anew."""

import asyncio
import io
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from lancedb.table import AsyncTable

from services.retriever.stores.lance.compaction import ensure_indices
from services.retriever.stores.lance.rows import base_schema, dimension_of
from services.retriever.stores.lance.tables import Tables

__all__ = ["PinnedTable", "TableGoneError", "import_table", "pin_table", "release_pins"]

PIN: Final = "backup-"
"""How the tag of a version begins that is being backed up. A version with a tag is not cleaned up."""

BATCH: Final = 4_096
"""Rows of one Arrow batch."""

COMMIT: Final = 64 * 2**20
"""Bytes of rows that one commit of an import brings."""

FILE: Final = 256 * 2**20
"""Bytes after which another file begins."""


_FAILURES: Final = (RuntimeError, ValueError, OSError)
"""What Lance raises where files are gone."""


class TableGoneError(Exception):
    """A table cannot be read: as a rule it was dropped meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedTable:
    """A version of a table that stays whatever becomes of the table, as long as it is not dropped."""

    name: str
    version: int
    tag: str
    table: AsyncTable

    async def files(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Arrow streams with all rows, tombstones among them, each to be read before the next. Raises
        TableGoneError."""
        with self._told():
            reader = await self.table.query().to_batches(max_batch_length=BATCH)
            schema = await self.table.schema()
        batches = _Batches(aiter(reader), schema, self._told)
        while not batches.done:
            yield batches.pieces()

    async def rows(self) -> int:
        """Raises TableGoneError."""
        with self._told():
            return int(await self.table.count_rows())

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except _FAILURES as error:
            raise TableGoneError(f"the table {self.name} of the index cannot be read: {error}") from error

    async def release(self) -> None:
        """Let the version be cleaned up."""
        with suppress(*_FAILURES):  # the table was dropped
            await self.table.checkout_latest()
            await self.table.tags.delete(self.tag)


class _Batches:
    """Splits the batches of a reader into Arrow streams of bounded size."""

    def __init__(
        self,
        batches: AsyncIterator[pa.RecordBatch],
        schema: pa.Schema,
        told: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._batches = batches
        self._schema = schema
        self._told = told
        self.done = False

    async def pieces(self) -> AsyncIterator[bytes]:
        sink, size = io.BytesIO(), 0
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(sink, self._schema, options=options) as writer:
            while size < FILE:
                with self._told():
                    batch = await anext(self._batches, None)
                if batch is None:
                    self.done = True
                    break
                await asyncio.to_thread(writer.write_batch, batch)
                yield (piece := _taken(sink))
                size += len(piece)
        yield _taken(sink)


def _taken(sink: io.BytesIO) -> bytes:
    piece = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return piece


async def pin_table(tables: Tables, name: str, backup: str) -> PinnedTable | None:
    """Keep the newest version of a table; None where there is none. Raises what Lance does."""
    table = await tables.open_anew(name)
    if table is None:
        return None
    version = await table.version()
    tag = f"{PIN}{backup}"
    await table.tags.create(tag, version)
    await table.checkout(version)
    return PinnedTable(name=name, version=version, tag=tag, table=table)


async def release_pins(tables: Tables, names: list[str], before: str) -> None:
    """Remove the tags of backups that did not end, and whose names come before this one."""
    for name in names:
        with suppress(*_FAILURES):
            if (table := await tables.open_anew(name)) is None:
                continue
            for tag in await table.tags.list():
                if tag.startswith(PIN) and tag < f"{PIN}{before}":
                    await table.tags.delete(tag)


async def import_table(tables: Tables, name: str, files: AsyncIterable[AsyncIterable[bytes]]) -> int:
    """Make a table with the rows of Arrow streams. Returns their number. One of its name must not be there.

    Everything is on disk at the end. Raises pa.ArrowException for what is not such a stream.
    """
    rows = 0
    async with tables.committing(name):
        table: AsyncTable | None = None
        async for pieces in files:
            stream = io.BytesIO()
            async for piece in pieces:
                stream.write(piece)
            stream.seek(0)
            reader = pa.ipc.open_stream(stream)
            if table is None:
                table = await tables.create(name, _anew(reader.schema))
            rows += await _add(table, reader)
        if table is not None:
            await ensure_indices(table)
    return rows


def _anew(schema: pa.Schema) -> pa.Schema:
    """The schema with the id of a new table: what others keep of the one before does not belong to it."""
    return schema.with_metadata({**(schema.metadata or {}), **base_schema(dimension_of(schema)).metadata})


async def _add(table: AsyncTable, reader: Any) -> int:
    rows = 0
    pending: list[pa.RecordBatch] = []
    for batch in reader:
        pending.append(batch)
        rows += batch.num_rows
        if sum(one.nbytes for one in pending) >= COMMIT:
            await table.add(pa.Table.from_batches(pending))
            pending = []
    if pending:
        await table.add(pa.Table.from_batches(pending))
    return rows
