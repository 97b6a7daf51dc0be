"""LlamaIndex and Haystack with their default splitters and retrievers, over vectors of the same model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.child import Child
from benchmarks.quality.corpora import Corpus, Question
from benchmarks.quality.corpora.vectors import embed
from benchmarks.quality.measures import DEPTH
from benchmarks.suite import PEERS
from services.embedder.model.model import Kind as TextKind

__all__ = ["MODULES", "search"]

MODULES: Final = {"LlamaIndex": "rank_llamaindex", "Haystack": "rank_haystack"}


def search(name: str, corpus: Corpus, questions: Sequence[Question], folder: Path) -> list[list[str]]:
    """Names of documents for each question, best passage first."""
    command = [str(PEERS / "bin" / "python"), "-m", f"benchmarks.peers.{MODULES[name]}"]
    log = folder / f"{name}.log"
    with Child(name, command, log=log, HAYSTACK_TELEMETRY_ENABLED="False") as child:
        texts = folder / "texts.json"
        texts.write_text(json.dumps(dict(corpus.documents)))
        cut: list[tuple[str, str]] = child.tell(json.dumps({"cut": str(texts)}))
        asked = [question.text for question in questions]
        np.save(folder / "vectors.npy", embed([text for _, text in cut], TextKind.PASSAGE))
        np.save(folder / "questions.npy", embed(asked, TextKind.QUERY))
        files = {"vectors": str(folder / "vectors.npy"), "questions": str(folder / "questions.npy")}
        found: list[list[str]] = child.tell(json.dumps(files | {"texts": asked, "top_k": DEPTH}))
    return found
