"""Filling an index through the retriever's own store, as the service does it."""

import asyncio
import os
import time
from pathlib import Path

import psutil

from benchmarks import suite
from benchmarks.retriever.corpus import PASSAGES, Corpus
from services.retriever.stores.lance.store import LanceStore

__all__ = ["COLLECTION", "build", "bytes_of"]

COLLECTION = "passages"
DOCUMENTS = 500
"""That one commit writes, of 10 passages each."""
MORE = 1_000
"""Passages that are written after the index is complete, to see what they cost."""


def build(folder: Path, corpus: Corpus) -> dict[str, float]:
    """Write all documents and bring the index up to date: each time that it has doubled, and in the end."""
    return asyncio.run(_build(folder, corpus))


async def _build(folder: Path, corpus: Corpus) -> dict[str, float]:
    spent = {"write_s": 0.0, "upkeep_s": 0.0}
    store = await LanceStore.open(str(folder))
    covered = 0
    try:
        for block in corpus.blocks():
            documents = corpus.documents(block)
            for start in range(0, len(documents), DOCUMENTS):
                began = time.perf_counter()
                await store.replace(COLLECTION, documents[start : start + DOCUMENTS])
                spent["write_s"] += time.perf_counter() - began
            written = block.first + len(block.vectors)
            if written >= 2 * covered or written == corpus.size:
                spent["upkeep_s"] += await _maintain(store)
                covered = written
                suite.say(f"{written:>9,} passages, {_shown(spent)}")
        size = bytes_of(folder)
        block = corpus.block(0)
        await store.replace(COLLECTION, corpus.documents(block)[: MORE // PASSAGES])
        spent["more_upkeep_s"] = await _maintain(store)
    finally:
        await store.close()
    memory = psutil.Process().memory_info().rss / 2**20
    return spent | {"bytes": size, "build_rss_mib": memory}


async def _maintain(store: LanceStore) -> float:
    began = time.perf_counter()
    await store.maintain(COLLECTION)
    return time.perf_counter() - began


def _shown(spent: dict[str, float]) -> str:
    return f"{spent['write_s']:.1f} s of writing, {spent['upkeep_s']:.1f} s of upkeep"


def bytes_of(folder: Path) -> int:
    """Of all files below a folder."""
    return sum(os.stat(os.path.join(place, name)).st_size for place, _, names in os.walk(folder) for name in names)
