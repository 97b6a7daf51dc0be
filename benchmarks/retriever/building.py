"""Filling an index through the retriever's own store, as the service does it."""

import asyncio
import os
import time
from pathlib import Path

import psutil

from benchmarks import suite
from benchmarks.retriever.corpus import Corpus
from services.retriever.lance import LanceStore
from services.retriever.settings import RetrieverSettings

__all__ = ["COLLECTION", "build", "bytes_of"]

COLLECTION = "passages"
DOCUMENTS = 500
"""That one commit writes, of 10 passages each."""


def build(folder: Path, corpus: Corpus) -> dict[str, float]:
    """Write all documents, and bring the index up to date after as many commits as the service waits for."""
    return asyncio.run(_build(folder, corpus))


async def _build(folder: Path, corpus: Corpus) -> dict[str, float]:
    commits = RetrieverSettings.model_fields["upkeep_commits"].default
    spent = {"write_s": 0.0, "upkeep_s": 0.0, "last_upkeep_s": 0.0}
    store = await LanceStore.open(str(folder))
    written = 0
    try:
        for block in corpus.blocks():
            documents = corpus.documents(block)
            for start in range(0, len(documents), DOCUMENTS):
                began = time.perf_counter()
                await store.replace(COLLECTION, documents[start : start + DOCUMENTS])
                spent["write_s"] += time.perf_counter() - began
                written += 1
                if written % commits == 0:
                    spent["upkeep_s"] += await _upkeep(store)
            suite.say(f"{block.first + len(block.vectors):>9,} passages, {_shown(spent)}")
        spent["last_upkeep_s"] = await _upkeep(store)
    finally:
        await store.close()
    memory = psutil.Process().memory_info().rss / 2**20
    return spent | {"commits": written, "bytes": bytes_of(folder), "build_rss_mib": memory}


async def _upkeep(store: LanceStore) -> float:
    began = time.perf_counter()
    await store.maintain(COLLECTION)
    return time.perf_counter() - began


def _shown(spent: dict[str, float]) -> str:
    return f"{spent['write_s']:.1f} s of writing, {spent['upkeep_s']:.1f} s of upkeep"


def bytes_of(folder: Path) -> int:
    """Of all files below a folder."""
    return sum(os.stat(os.path.join(place, name)).st_size for place, _, names in os.walk(folder) for name in names)
