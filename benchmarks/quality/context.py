"""What the text around passages adds to prompts and answers: `python -m benchmarks.quality.context`.

The questions are those that people wrote, of the corpus *faq*. `docs` has each entry of a FAQ as a document; `files`
has the entries of a file as one document without headings, so that the text around a passage is often of another entry.
Every document is indexed and searched by Sluice's own code, and the extractive engine answers.

- *evidence*: the share of the sentences of the right entry that the prompt has.
- *nearest*: whether the prompt has the sentence of the right entry that is nearest in meaning to the question.
- *answered*: whether the answer has a sentence of the right entry.

Brackets are 95 % bootstrap intervals over questions, of the mean and of the difference to 5 passages without context.
"""

import argparse
import asyncio
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.quality.corpora import Corpus, Half, Kind, Question, load
from benchmarks.quality.corpora.models import digest
from benchmarks.quality.corpora.vectors import embed
from benchmarks.quality.measures import difference, interval
from services.embedder.model.model import Kind as TextKind
from services.generator.engines.base import Prompt, TextDelta
from services.generator.engines.extractive.engine import ExtractiveConfig, ExtractiveEngine
from services.generator.prompting.context import disjoint_contexts, prompt_passages
from services.generator.prompting.tokens import approximate_tokens
from services.retriever.stages.retrieve import Retrieve
from services.retriever.stores.base import Chunk, IndexedDocument
from services.retriever.stores.lance.store import LanceStore
from services.scheduler.ingestion.chunking.chunker import Chunker
from services.scheduler.ingestion.parsing.registry import parse
from shared.analysis.sentences import SentenceKind, split_sentences
from shared.contracts.envelope import Query, Stop, pack_vector

Vector = npt.NDArray[np.float32]

CASES: Final = ((5, 0), (5, 1), (5, 2), (8, 0), (12, 0))
"""Passages, and how many chunks on each side of one are its context."""

LEAST_WORDS: Final = 4
QUOTED: Final = (SentenceKind.PROSE, SentenceKind.ITEM)
_CITATION = re.compile(r" \[\d+\]")


def flat(text: str) -> str:
    return " ".join(text.split())


def evidence(corpus: Corpus, question: Question) -> list[str]:
    """The sentences of the entry that answers."""
    (name,) = question.relevant
    sentences = (one for one in split_sentences(corpus.documents[name]) if one.kind in QUOTED)
    return [flat(one.text) for one in sentences if len(one.text.split()) >= LEAST_WORDS]


def as_files(documents: Mapping[str, str]) -> dict[str, str]:
    files: defaultdict[str, list[str]] = defaultdict(list)
    for name, text in documents.items():
        files[re.sub(r"-\d+\.txt$", ".txt", name)].append(text)
    return {name: "\n\n".join(texts) for name, texts in files.items()}


def indexed(documents: Mapping[str, str]) -> list[IndexedDocument]:
    chunker = Chunker()
    cut = {name: list(chunker.chunk(parse(name, text.encode()).sections)) for name, text in documents.items()}
    vectors = iter(embed([chunk.text for chunks in cut.values() for chunk in chunks], TextKind.PASSAGE))
    return [
        IndexedDocument(
            id=digest(name)[:16],
            name=name,
            version="1",
            revision=1,
            chunks=[
                Chunk(position=one.position, text=one.text, vector=next(vectors), section=one.section) for one in chunks
            ],
        )
        for name, chunks in cut.items()
    ]


async def ask(retrieve: Retrieve, text: str, vector: Vector, top_k: int, reach: int) -> tuple[str, str]:
    """What of the passages is in the prompt, and the answer."""
    query = Query(
        id="q",
        asked_at=0,
        deadline=time.time() + 60,
        reply="reply",
        slip=(Stop(stage="retrieve"),),
        question=text,
        collection="c",
        embedding=pack_vector(vector.tolist()),
    )
    context: Any = SimpleNamespace(params={"top_k": top_k, "context": reach})
    passages = prompt_passages(disjoint_contexts((await retrieve(query, context)).passages))
    engine = ExtractiveEngine(ExtractiveConfig())
    prepared = await engine.prepare(Prompt(question=text, passages=passages))
    pieces = [item.text async for item in engine.generate(prepared) if isinstance(item, TextDelta)]
    return flat("\n\n".join(passage.text for passage in passages)), flat(_CITATION.sub("", "".join(pieces)))


async def measure(corpus: Corpus, questions: Sequence[Question], documents: Mapping[str, str]) -> dict[Any, Any]:
    """By case and figure a value for each question."""
    right = {question.id: evidence(corpus, question) for question in questions}
    vectors = embed([question.text for question in questions], TextKind.QUERY)
    sentences = sorted({sentence for found in right.values() for sentence in found})
    near = dict(zip(sentences, embed(sentences, TextKind.PASSAGE), strict=True))
    rows: dict[Any, defaultdict[str, list[float]]] = {case: defaultdict(list) for case in CASES}
    with tempfile.TemporaryDirectory() as folder:
        store = await LanceStore.open(folder)
        await store.replace("c", indexed(documents))
        await store.maintain("c")
        retrieve = Retrieve(store)
        for question, vector in zip(questions, vectors, strict=True):
            nearest = max(right[question.id], key=lambda one: float(near[one] @ vector))
            for case, row in rows.items():
                shown, answer = await ask(retrieve, question.text, vector, *case)
                row["evidence"].append(float(np.mean([one in shown for one in right[question.id]])))
                row["nearest"].append(float(nearest in shown))
                row["answered"].append(float(any(one in answer for one in right[question.id])))
                row["tokens"].append(float(approximate_tokens(shown)))
        await store.close()
    return rows


def show(rows: dict[Any, Any]) -> None:
    base = rows[CASES[0]]
    for (top_k, reach), row in rows.items():
        print(f"{top_k} passages, context {reach}: {np.mean(row['tokens']):,.0f} tokens")
        for figure in ("evidence", "nearest", "answered"):
            mean, added = interval(row[figure]), difference(row[figure], base[figure])
            print(
                f"    {figure:<9} {mean['mean']:.3f} [{mean['low']:.3f}, {mean['high']:.3f}]"
                f"  {added['mean']:+.3f} [{added['low']:+.3f}, {added['high']:+.3f}]"
            )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.context", description=__doc__)
    parser.add_argument("--half", choices=[half.value for half in Half], default=Half.TEST.value)
    corpus = load("faq")
    asked = corpus.of(Half(parser.parse_args().half), Kind.QUESTIONS)
    questions = [question for question in asked if evidence(corpus, question)]
    for name, documents in {"docs": corpus.documents, "files": as_files(corpus.documents)}.items():
        print(f"{name}: {len(documents)} documents, {len(questions)} questions")
        show(asyncio.run(measure(corpus, questions, documents)))


if __name__ == "__main__":
    main()
