"""Collections that are embedded with fine-tuned models of the store, on the whole platform."""

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sluice import Client
from sluice.api.jobs import Job
from sluice.api.queries import Answer
from sluice.client.errors import SluiceError
from tests.harness.embedding_models import fine_tuned, tiny_embedder
from tests.harness.platform import Platform, eventually

TEXTS = {
    f"log-{number}": f"Keeper {number} of the lighthouse wrote that lamp {number} burned {number} litres of oil."
    for number in range(8)
}
QUESTION = "How much oil did the lamp of keeper 3 burn?"


@pytest.fixture(scope="module")
def tuned(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A fine-tuned copy of the bundled model, in the store."""
    with platform.client(timeout=300) as client:
        return client.import_model(fine_tuned(tmp_path_factory.mktemp("tuned") / "model")).name


@pytest.fixture(scope="module")
def tiny(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Models with vectors of 32 numbers."""
    folder = tmp_path_factory.mktemp("tiny")
    with platform.client(timeout=300) as client:
        return [client.import_model(tiny_embedder(folder / f"{seed}", seed=seed)).name for seed in (21, 22, 23)]


@pytest.fixture
def logs(client: Client, request: pytest.FixtureRequest) -> str:
    name = f"models-{request.node.name.removeprefix('test_')[:36]}"
    client.create_collection(name)
    client.wait(client.add_texts(name, TEXTS).id)
    return name


def submit(client: Client, **spec: Any) -> Job:
    return client.wait(client.submit_job(spec).id, timeout=300)


def models_of(answer: Answer) -> tuple[str, str]:
    return answer.collection_version, answer.embedding_model


def similarity(answer: Answer) -> float | None:
    return next(source.similarity for source in answer.sources if source.document == "log-3")


class Readers:
    """Clients that ask one question after another, each of its own collection."""

    def __init__(self, platform: Platform, *collections: str) -> None:
        self.answers: dict[str, list[Answer]] = {name: [] for name in collections}
        self.errors: list[BaseException] = []
        self._platform = platform
        self._enough = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._ask, args=(name,)) for name in self.answers]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._enough.set()
            for thread in threads:
                thread.join()

    def until(self, enough: Callable[[], bool], what: str) -> None:
        eventually(lambda: bool(self.errors) or enough(), what)
        assert not self.errors, self.errors[0]

    def next_of(self, collection: str, count: int = 3) -> None:
        """Wait for further answers from a collection."""
        seen = len(self.answers[collection])
        self.until(lambda: len(self.answers[collection]) >= seen + count, f"answers from {collection}")

    def _ask(self, name: str) -> None:
        with self._platform.client() as client:
            for number in itertools.count():
                if self._enough.is_set():
                    return
                question = f"How much oil did lamp {number % 8} burn, and when was it the {number}th time?"
                try:
                    self.answers[name].append(client.query(question, collection=name))
                except BaseException as error:  # noqa: BLE001  (the test says what it was)
                    self.errors.append(error)
                    return


def test_a_fine_tuned_model_is_indexed_asked_switched_to_and_left_again_without_a_restart(
    platform: Platform, client: Client, logs: str, tuned: str
) -> None:
    first = client.query(QUESTION, collection=logs)
    assert models_of(first) == ("v1", "")
    readers = Readers(platform, logs)
    with readers.running():
        job = submit(client, kind="reindex", collection=logs, embedding_model=tuned)
        assert job.state == "succeeded", job.error
        readers.until(lambda: models_of(readers.answers[logs][-1]) == ("v2", tuned), "an answer of the new version")
        with_model = client.query(QUESTION, collection=logs)
        assert with_model.sources[0].document == "log-3"
        assert similarity(with_model) != pytest.approx(similarity(first), abs=1e-4)

        assert submit(client, kind="switch", collection=logs).state == "succeeded"
        readers.until(lambda: models_of(readers.answers[logs][-1]) == ("v1", ""), "an answer of the first version")
    assert similarity(client.query(QUESTION, collection=logs)) == pytest.approx(similarity(first), abs=1e-4)
    old = client.query(QUESTION, collection=logs, version="v2")
    assert models_of(old) == ("v2", tuned)
    assert client.collection(logs).versions[1].embedding_model == tuned


def test_vectors_of_another_dimension_get_a_table_of_their_own(client: Client, logs: str, tiny: list[str]) -> None:
    job = submit(client, kind="reindex", collection=logs, embedding_model=tiny[0])
    assert job.state == "succeeded", job.error
    client.wait(client.add_texts(logs, {"later": "The fog signal came later."}).id)
    assert {document.name for document in client.documents(logs)} == {*TEXTS, "later"}
    assert models_of(client.query("The fog signal came later.", collection=logs)) == ("v2", tiny[0])
    job = submit(client, kind="reindex", collection=logs, embedding_model="")
    assert job.state == "succeeded", job.error
    assert client.query("What of the fog signal?", collection=logs).sources[0].document == "later"


def test_more_models_than_fit_into_memory_answer_all_at_once_through_a_kill_of_the_embedder(
    platform: Platform, client: Client, logs: str, tiny: list[str]
) -> None:
    names = [logs]
    for number, model in enumerate(tiny):
        name = f"models-side-by-side-{number}"
        client.create_collection(name, embedding_model=model)
        client.wait(client.add_texts(name, TEXTS).id)
        names.append(name)
    readers = Readers(platform, *names)
    with readers.running():
        for name in names:
            readers.next_of(name)
        assert platform.metric("embedder", "sluice_embedder_models_loaded") <= 2
        assert platform.metric("embedder", "sluice_embedder_model_evictions_total") > 0
        killed = platform.state.services["embedder"].pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: platform.state.services["embedder"].pid not in (None, killed), "another embedder")
        for name in names:
            readers.next_of(name)
    wanted = dict(zip(names, ["", *tiny], strict=True))
    assert all({models_of(answer)[1] for answer in given} == {wanted[n]} for n, given in readers.answers.items())


def test_a_model_that_is_not_there_or_not_an_embedder_fails_the_job_and_the_live_version_stays(
    client: Client, logs: str, tmp_path: Path
) -> None:
    job = submit(client, kind="reindex", collection=logs, embedding_model="m-000000000000")
    assert job.state == "failed"
    assert job.error is not None
    assert job.error.type.endswith(":model-not-found")
    adapter = client.import_model(tiny_embedder(tmp_path / "adapter", seed=24), kind="adapter").name
    job = submit(client, kind="reindex", collection=logs, embedding_model=adapter)
    assert job.error is not None
    assert "is of the kind adapter" in job.error.detail
    assert [version.name for version in client.collection(logs).versions] == ["v1"]
    assert client.query(QUESTION, collection=logs).sources


def test_texts_are_embedded_and_reranked_by_a_model_of_the_store(client: Client, logs: str, tiny: list[str]) -> None:
    vectors = [
        client._http.post("/v1/embeddings", json={"model": name, "input": ["oil"]}).json()["data"][0]["embedding"]
        for name in tiny[:2]
    ]
    assert [len(vector) for vector in vectors] == [32, 32]
    assert vectors[0] != vectors[1]
    body = {"model": tiny[0], "query": "oil", "documents": ["water", "oil"]}
    ranked = client._http.post("/v1/rerank", json=body).json()
    assert ranked["results"][0]["index"] == 1
    with pytest.raises(SluiceError, match="no model"):
        client.create_collection("models-none", embedding_model="m-000000000000")
