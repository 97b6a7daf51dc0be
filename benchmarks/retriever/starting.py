"""How long a collection takes until searches are answered from memory: without files of an earlier start, and with."""

import asyncio
import time
from pathlib import Path

from benchmarks import suite
from benchmarks.retriever.building import COLLECTION, bytes_of
from benchmarks.retriever.corpus import Question
from services.retriever.serving.store import ServingStore
from services.retriever.stores.lance.store import LanceStore

__all__ = ["start"]

MEMORY_MIB = 8_192
PATIENCE = 600.0


def start(folder: Path, cache: Path, question: Question) -> dict[str, float]:
    """Seconds from the opened store to the first answer from memory, and the bytes that are held and kept."""
    return asyncio.run(_start(folder, cache, question))


async def _start(folder: Path, cache: Path, question: Question) -> dict[str, float]:
    store = ServingStore(await LanceStore.open(str(folder)), memory=MEMORY_MIB, patience=PATIENCE, cache=cache)
    try:
        began = time.perf_counter()
        await store.search(COLLECTION, question.text, question.vector, top_k=10)
        seconds = time.perf_counter() - began
        held = float(store.nbytes)
    finally:
        await store.close()
    suite.say(f"searched from memory after {seconds:.1f} s")
    return {"start_s": seconds, "memory_bytes": held, "cache_bytes": float(bytes_of(cache))}
