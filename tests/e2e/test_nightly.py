"""The nightly example: over real documents, through the command line, while questions are asked all the time."""

import itertools
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sluice import Client
from sluice.api.queries import Answer
from tests.harness.paths import DOCS, EXAMPLES
from tests.harness.platform import Platform, eventually

NIGHTLY = EXAMPLES / "nightly"
PAGES = ("ingestion", "own-stage", "rollouts")
"""Pages of the documentation that answer a part of the example's questions."""
ANSWERING_NOTHING = ("stage-runtime",)
QUESTIONS = [
    question
    for question in map(json.loads, (NIGHTLY / "questions.jsonl").read_text().splitlines())
    if set(question["sources"]) <= {f"docs/{page}.md" for page in PAGES}
]
ALL = 100
"""More passages than any version here has."""


class Night:
    """A collection of its own that is fed from a folder."""

    def __init__(self, platform: Platform, client: Client, folder: Path) -> None:
        self.collection = "nightly"
        self._platform = platform
        self._client = client
        self._folder = folder
        self._questions = "nightly/questions.jsonl"
        folder.mkdir()
        client.create_collection(self.collection)
        client.put_artifact(self._questions, "\n".join(map(json.dumps, QUESTIONS)).encode())

    def bring(self, pages: tuple[str, ...]) -> None:
        """Let the folder hold these pages and nothing else."""
        for file in self._folder.iterdir():
            file.unlink()
        for page in pages:
            shutil.copy(DOCS / f"{page}.md", self._folder)

    def run(self, **parameters: Any) -> dict[str, Any]:
        """The outputs of the pipeline, which must succeed."""
        given = {"folder": self._folder, "collection": self.collection, **parameters}
        options = [f"-p{name}={value}" for name, value in given.items()]
        shown = self._platform.sluice("run", str(NIGHTLY / "pipeline.yaml"), "--json", *options)
        outputs: dict[str, Any] = json.loads(shown)["outputs"]
        return outputs

    def texts(self, version: str) -> set[str]:
        """All passages of a version."""
        answer = self._client.query("What is it?", collection=self.collection, version=version, top_k=ALL)
        assert 1 < len(answer.sources) < ALL, len(answer.sources)
        return {source.text for source in answer.sources}


class QueryLoop:
    """Clients that ask one question after another; `answers` are the passages that each answer rests on."""

    def __init__(self, platform: Platform, collection: str) -> None:
        self.answers: list[frozenset[str]] = []
        self.errors: list[BaseException] = []
        self._platform = platform
        self._collection = collection
        self._enough = threading.Event()

    @contextmanager
    def running(self, clients: int = 2) -> Iterator[None]:
        threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._enough.set()
            for thread in threads:
                thread.join()

    def _ask(self) -> None:
        with self._platform.client() as client:
            for question in itertools.cycle(QUESTIONS):
                if self._enough.is_set():
                    return
                try:
                    answer: Answer = client.query(question["question"], collection=self._collection, top_k=8)
                except BaseException as error:  # noqa: BLE001  (the test says what it was)
                    self.errors.append(error)
                    return
                self.answers.append(frozenset(source.text for source in answer.sources))

    def until(self, enough: Callable[[frozenset[str]], bool]) -> None:
        """Wait for an answer from now on that is as wanted."""
        since = len(self.answers)
        eventually(lambda: bool(self.errors) or any(map(enough, self.answers[since:])), "an answer")
        assert not self.errors, self.errors[0]


@pytest.fixture
def night(platform: Platform, client: Client, sources: Path) -> Night:
    return Night(platform, client, sources / "docs")


def test_the_new_version_goes_live_if_it_is_no_worse_and_else_the_old_one_stays(
    platform: Platform, client: Client, night: Night
) -> None:
    night.bring(PAGES)
    first = night.run(minimum=0, tolerance=1)
    assert (first["switched"], first["version"], first["failed_documents"]) == (True, "v2", 0)
    large = night.texts("v2")

    query_loop = QueryLoop(platform, night.collection)
    with query_loop.running():
        query_loop.until(lambda texts: texts <= large)
        second = night.run(chunk_tokens=128, tolerance=0.2)
        assert (second["switched"], second["version"]) == (True, "v3")
        assert second["message"].startswith("Switched from v2 to v3: recall@5 ")
        assert second["recall_at_5"]["new"] >= 0.7
        assert client.collection(night.collection).version == "v3"
        small = night.texts("v3")
        assert not large <= small
        query_loop.until(lambda texts: texts <= small)
    assert not query_loop.errors, query_loop.errors[0]
    assert all(texts <= large or texts <= small for texts in query_loop.answers)

    query_loop = QueryLoop(platform, night.collection)
    with query_loop.running():
        night.bring(ANSWERING_NOTHING)
        third = night.run(chunk_tokens=256)
    assert not query_loop.errors, query_loop.errors[0]
    assert (third["switched"], third["version"]) == (False, "v3")
    assert third["message"].startswith("Kept v3, as v4 is not good enough: recall@5 0.0 (live 0.0, wanted 0.7)")
    assert client.collection(night.collection).version == "v3"
    # The documents are the new ones all the same, indexed as the live version is.
    assert [document.name for document in client.documents(night.collection)] == ["docs/stage-runtime.md"]
    kept, refused = night.texts("v3"), night.texts("v4")
    assert kept != refused
    assert all(texts <= small | kept for texts in query_loop.answers)
