"""Other versions of a collection: built, switched to and back while questions are asked all the time."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sluice import Client
from sluice.api.jobs import Job
from sluice.api.queries import Answer
from sluice.client.errors import SluiceError
from tests.harness.platform import Platform, eventually

SENTENCES = 60
"""So many make several chunks of the usual size, and many more of the smallest."""

DOCUMENTS = {
    f"log-{number}": " ".join(
        f"On day {day} keeper {number} of the lighthouse wrote that the lamp {number} burned {day} litres of oil."
        for day in range(SENTENCES)
    )
    for number in range(6)
}
LONGEST_SMALL_CHUNK = 250
"""Characters: chunks of 48 tokens have fewer, those of 256 have many more."""


def submit(client: Client, **spec: Any) -> Job:
    """Submit a job and wait for its end."""
    return client.wait(client.submit_job(spec).id, timeout=300)


def states(client: Client, collection: str) -> dict[str, str]:
    return {version.name: version.state for version in client.collection(collection).versions}


def is_small(answer: Answer) -> set[bool]:
    """Which sizes of chunks an answer rests on."""
    return {len(source.text) < LONGEST_SMALL_CHUNK for source in answer.sources}


class QueryLoop:
    """Several clients that ask one question after another."""

    def __init__(self, platform: Platform, collection: str) -> None:
        self.answers: list[Answer] = []
        self.errors: list[BaseException] = []
        self._platform = platform
        self._collection = collection
        self._enough = threading.Event()

    @contextmanager
    def running(self, clients: int = 4) -> Iterator[None]:
        threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._enough.set()
            for thread in threads:
                thread.join()

    def _ask(self, number: int) -> None:
        with self._platform.client() as client:
            for day in itertools.count():
                if self._enough.is_set():
                    return
                question = f"How much oil did lamp {number} burn on day {day % SENTENCES}?"
                try:
                    self.answers.append(client.query(question, collection=self._collection, top_k=8))
                except BaseException as error:  # noqa: BLE001  (the test says what it was)
                    self.errors.append(error)
                    return

    def until(self, enough: Callable[[Answer], bool], since: int) -> None:
        """Wait for an answer that comes after the first `since` and is as wanted."""
        eventually(lambda: bool(self.errors) or any(enough(a) for a in self.answers[since:]), "an answer")
        assert not self.errors, self.errors[0]


@pytest.fixture
def logs(client: Client, request: pytest.FixtureRequest) -> str:
    """A collection of its own with the documents in it."""
    name = request.node.name.removeprefix("test_")[:40]
    client.create_collection(name)
    client.wait(client.add_texts(name, DOCUMENTS).id)
    return name


def test_no_question_fails_or_sees_two_versions_while_one_is_built_switched_to_and_left_again(
    platform: Platform, client: Client, logs: str
) -> None:
    query_loop = QueryLoop(platform, logs)
    with query_loop.running():
        query_loop.until(lambda answer: is_small(answer) == {False}, since=0)

        job = submit(client, kind="reindex", collection=logs, chunk_tokens=48, chunk_overlap=0)
        assert job.state == "succeeded", job.error
        assert job.outputs["version"] == "v2"
        assert states(client, logs) == {"v1": "retired", "v2": "live"}
        query_loop.until(lambda answer: is_small(answer) == {True}, since=len(query_loop.answers))

        job = submit(client, kind="switch", collection=logs)
        assert job.state == "succeeded", job.error
        assert states(client, logs) == {"v1": "live", "v2": "retired"}
        query_loop.until(lambda answer: is_small(answer) == {False}, since=len(query_loop.answers))
    assert not query_loop.errors, query_loop.errors[0]
    assert all(len(is_small(answer)) == 1 for answer in query_loop.answers)


def test_what_changes_while_a_version_waits_is_in_it_once_it_is_live(client: Client, logs: str) -> None:
    job = submit(client, kind="reindex", collection=logs, version="small", chunk_tokens=48, switch=False)
    assert (job.state, job.outputs["live"]) == ("succeeded", False)
    assert states(client, logs) == {"v1": "live", "small": "ready"}

    client.wait(client.add_texts(logs, {"log-0": "Keeper 0 burned the log.", "new": "The mole is new."}).id)
    client.wait(client.delete_documents(logs, ["log-1"]).id)
    assert submit(client, kind="switch", collection=logs, version="small").state == "succeeded"

    assert {document.name for document in client.documents(logs)} == (DOCUMENTS.keys() - {"log-1"}) | {"new"}
    answer = client.query("Is the mole new?", collection=logs, top_k=20)
    found = {source.document for source in answer.sources}
    assert "new" in found
    assert "log-1" not in found
    texts = [source.text for source in answer.sources if source.document == "log-0"]
    assert all(text == "Keeper 0 burned the log." for text in texts)


def test_a_rollback_brings_back_the_way_of_indexing_and_not_the_old_documents(client: Client, logs: str) -> None:
    submit(client, kind="reindex", collection=logs, chunk_tokens=48)
    client.wait(client.add_texts(logs, {"later": "The fog signal came later."}).id)
    assert submit(client, kind="switch", collection=logs).state == "succeeded"
    assert client.collection(logs).version == "v1"
    answer = client.query("What of the fog signal?", collection=logs, top_k=1)
    assert answer.sources[0].document == "later"


def test_a_version_that_is_not_live_can_be_asked_by_its_name(client: Client, logs: str) -> None:
    submit(client, kind="reindex", collection=logs, version="small", chunk_tokens=48, switch=False)
    question = "How much oil did lamp 2 burn on day 3?"
    assert is_small(client.query(question, collection=logs, version="small")) == {True}
    assert is_small(client.query(question, collection=logs)) == {False}
    with pytest.raises(SluiceError) as unknown:
        client.query(question, collection=logs, version="large")
    assert unknown.value.code == "not-found"


def test_documents_ingested_after_a_switch_are_cut_as_the_live_version_is(client: Client, logs: str) -> None:
    submit(client, kind="reindex", collection=logs, chunk_tokens=48)
    client.wait(client.add_texts(logs, {"after": DOCUMENTS["log-3"].replace("lamp 3", "the siren")}).id)
    answer = client.query("How much oil did the siren burn?", collection=logs, top_k=8)
    assert "after" in {source.document for source in answer.sources}
    assert is_small(answer) == {True}


def test_a_switch_to_nothing_is_refused_and_changes_nothing(client: Client, logs: str) -> None:
    for version, code in ((None, "version-not-ready"), ("v9", "not-found")):
        job = submit(client, kind="switch", collection=logs, **({"version": version} if version else {}))
        assert job.state == "failed"
        assert job.error is not None
        assert job.error.type.endswith(code)
    assert states(client, logs) == {"v1": "live"}
