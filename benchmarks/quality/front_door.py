"""Sluice as a client sees it: documents go in over HTTP, questions to POST /v1/query."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import httpx

from benchmarks.quality.corpora import Corpus, Question
from benchmarks.quality.measures import DEPTH
from tests.harness.platform import Platform

__all__ = ["Asked", "FrontDoor"]

AT_ONCE: Final = 4
UPLOAD: Final = 500
NO_ANSWER: Final = ("The documents found do not seem to answer", "No documents were found")
"""How the extractive engine begins an answer that is none."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of a question. `answered` is what `answerable` says, or without it whether the answer says more than
    that there is none."""

    documents: list[str]
    answered: bool
    confidence: float | None
    milliseconds: float


class FrontDoor:
    """A platform that runs."""

    def __init__(self, platform: Platform) -> None:
        self._client = platform.client(timeout=600)
        self._http = httpx.Client(base_url=platform.url, timeout=120, trust_env=False)

    def ingest(self, corpus: Corpus) -> str:
        """The collection with the documents of a corpus."""
        collection = f"quality-{corpus.name}"
        self._client.create_collection(collection)
        names = list(corpus.documents)
        for start in range(0, len(names), UPLOAD):
            texts = {name: corpus.documents[name] for name in names[start : start + UPLOAD]}
            job = self._client.wait(self._client.add_texts(collection, texts).id)
            if job.state != "succeeded":
                raise SystemExit(f"the ingestion did not go well: {job}")
        return collection

    def ask(self, collection: str, questions: Sequence[Question], **members: Any) -> list[Asked]:
        """What came of each question; `members` are those of the request."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda question: self._ask(collection, question, members), questions))

    def _ask(self, collection: str, question: Question, members: dict[str, Any]) -> Asked:
        body = {"question": question.text, "collection": collection, "top_k": DEPTH, "timeout": 60, **members}
        response = self._http.post("/v1/query", content=json.dumps(body), headers={"content-type": "application/json"})
        if response.status_code != 200:
            raise SystemExit(f"no answer to {question.text!r}: {response.text}")
        answer = response.json()
        return Asked(
            documents=[source["document"] for source in answer["sources"]],
            answered=bool(answer.get("answerable", not answer["answer"].startswith(NO_ANSWER))),
            confidence=answer.get("confidence"),
            milliseconds=answer["timings"]["total_ms"],
        )
