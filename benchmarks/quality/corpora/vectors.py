"""Chunks and vectors of a corpus: Sluice's own chunker and embedding model, with what was computed kept on disk."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.quality.corpora.models import Corpus, digest
from benchmarks.quality.corpora.packages import cache_folder
from services.embedder.model.model import EmbeddingModel, ModelConfig
from services.embedder.model.model import Kind as TextKind
from services.scheduler.ingestion.chunking.chunker import Chunker, Chunking
from services.scheduler.ingestion.parsing.registry import parse

__all__ = ["Chunk", "Prepared", "embed", "prepare"]

Vectors = npt.NDArray[np.float32]

BLOCK: Final = 256
"""Texts of one file on the disk: an interrupted run loses at most the vectors of one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A passage as Sluice would index it; `position` counts from 0 within the document."""

    document: str
    position: int
    text: str
    heading: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Row n of `vectors` (chunks x dimension) is of chunk n, row n of `question_vectors` of question n of the corpus.
    All have length 1."""

    corpus: Corpus
    chunks: Sequence[Chunk]
    vectors: Vectors
    question_vectors: Vectors


def prepare(corpus: Corpus, chunking: Chunking | None = None) -> Prepared:
    """Chunk and embed; takes about a second for 90 chunks the first time on two cores."""
    chunks = [chunk for name, text in corpus.documents.items() for chunk in _chunks(name, text, chunking or Chunking())]
    return Prepared(
        corpus=corpus,
        chunks=chunks,
        vectors=embed([chunk.text for chunk in chunks], TextKind.PASSAGE),
        question_vectors=embed([question.text for question in corpus.questions], TextKind.QUERY),
    )


def embed(texts: Sequence[str], kind: TextKind) -> Vectors:
    """Vectors of length 1, (texts x dimension), from the disk where the same texts were embedded before."""
    blocks = [_block(tuple(texts[start : start + BLOCK]), kind) for start in range(0, len(texts), BLOCK)]
    return np.concatenate(blocks)


def _block(texts: tuple[str, ...], kind: TextKind) -> Vectors:
    folder = cache_folder("vectors")
    key = digest("\0".join((ModelConfig().name, kind.value, *texts)))[:32]
    path = folder / f"{key}.npy"
    if not path.exists():
        computed = _model().embed(texts, kind)
        working = folder / f"{key}.{os.getpid()}.tmp"
        with working.open("wb") as file:
            np.save(file, computed)
        working.replace(path)
    vectors: Vectors = np.load(path)
    return vectors


@cache
def _model() -> EmbeddingModel:
    return EmbeddingModel.load(ModelConfig())


@cache
def _chunker(chunking: Chunking) -> Chunker:
    return Chunker(max_tokens=chunking.max_tokens, overlap_tokens=chunking.overlap_tokens)


def _chunks(name: str, text: str, chunking: Chunking) -> list[Chunk]:
    document = parse(name, text.encode())
    return [
        Chunk(document=name, position=one.position, text=one.text, heading=one.heading)
        for one in _chunker(chunking).chunk(document.sections)
    ]
