"""A version of a collection that is a canary, asked through the gateway."""

import itertools
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sluice import Client
from sluice.api.collections import VersionCanary
from sluice.api.queries import Answer
from sluice.client.errors import SluiceError
from tests.harness.platform import Platform, eventually

DOCUMENTS = {
    f"log-{number}": " ".join(f"On day {day} keeper {number} burned {day} litres of oil." for day in range(60))
    for number in range(3)
}


class Readers:
    """Readers who ask one question after another, each in a conversation of their own."""

    def __init__(self, platform: Platform, collection: str) -> None:
        self.answers: list[tuple[str, Answer]] = []
        self.errors: list[SluiceError] = []
        self._platform = platform
        self._collection = collection
        self._enough = threading.Event()

    @property
    def versions(self) -> list[str]:
        return [answer.collection_version for _, answer in self.answers]

    @contextmanager
    def running(self, readers: int = 3) -> Iterator[None]:
        threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(readers)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._enough.set()
            for thread in threads:
                thread.join()

    def _ask(self, reader: int) -> None:
        with self._platform.client() as client:
            for number in itertools.count():
                if self._enough.is_set():
                    return
                conversation = f"{reader}-{number // 4}"
                try:
                    answer = client.query(
                        f"How much oil did keeper {reader} burn on day {number % 60}?",
                        collection=self._collection,
                        conversation=conversation,
                    )
                except SluiceError as error:
                    self.errors.append(error)
                    return
                self.answers.append((conversation, answer))


def first_canary(client: Client, collection: str) -> VersionCanary:
    """The canary of a collection, as soon as there is one."""
    found: list[VersionCanary] = []

    def there() -> bool:
        canary = client.collection(collection).canary
        found.extend([canary] if canary else [])
        return bool(found)

    eventually(there, "the canary")
    return found[0]


@pytest.fixture
def logs(client: Client, request: pytest.FixtureRequest) -> str:
    """A collection with a second version that is not live."""
    name = request.node.name.removeprefix("test_")[:40]
    client.create_collection(name)
    client.wait(client.add_texts(name, DOCUMENTS).id)
    job = client.submit_job({"kind": "reindex", "collection": name, "chunk_tokens": 48, "switch": False})
    assert client.wait(job.id).state == "succeeded"
    return name


def test_a_canary_gets_more_and_more_questions_and_becomes_the_live_version(
    platform: Platform, client: Client, logs: str
) -> None:
    readers = Readers(platform, logs)
    with readers.running():
        spec = {"kind": "canary", "collection": logs, "version": "v2", "steps": [40, 80], "min_answers": 8}
        job = client.submit_job({**spec, "step_seconds": 0, "max_slower": 100})
        canary = first_canary(client, logs)
        assert (canary.version, canary.job) == ("v2", job.id)
        assert canary.percent in (40, 80)
        ended = client.wait(job.id, timeout=120)
        assert ended.outputs["promoted"] is True, ended
        eventually(lambda: bool(readers.errors) or set(readers.versions[-10:]) == {"v2"}, "answers of v2 alone")
    assert not readers.errors, readers.errors[0]
    assert set(readers.versions) == {"v1", "v2"}
    assert ended.outputs["answered"] >= 16
    assert client.collection(logs).version == "v2"
    assert client.collection(logs).canary is None
    for version in ("v1", "v2"):
        assert platform.metric("gateway", "sluice_gateway_best_score_count", collection=logs[:31], version=version) > 0
    # Only a step, or the end, moves a conversation to the canary, and none goes back.
    for conversation in dict(readers.answers):
        seen = [answer.collection_version for one, answer in readers.answers if one == conversation]
        assert seen == sorted(seen), seen


def test_a_version_in_the_shadow_is_asked_and_nobody_sees_its_answers(
    platform: Platform, client: Client, logs: str
) -> None:
    readers = Readers(platform, logs)

    def answered() -> bool:
        found = re.search(r"in the shadow of v1, 100 %: asked (\d+)", client.job(job.id).progress.message)
        return found is not None and int(found[1]) >= 10

    with readers.running():
        spec = {"kind": "canary", "collection": logs, "version": "v2", "shadow": 100, "min_answers": 1_000_000}
        job = client.submit_job({**spec, "max_slower": 100})
        canary = first_canary(client, logs)
        assert (canary.version, canary.percent, canary.shadow) == ("v2", 0, 100)
        eventually(lambda: bool(readers.errors) or answered(), "ten answers of v2")
        client.cancel_job(job.id)
        client.wait(job.id)
    assert not readers.errors, readers.errors[0]
    assert set(readers.versions) == {"v1"}


def test_scheduler_and_broker_are_killed_in_the_middle_and_no_question_is_lost(
    platform: Platform, client: Client, logs: str
) -> None:
    readers = Readers(platform, logs)

    def step(done: int) -> None:
        eventually(lambda: client.job(job.id).progress.done >= done, f"{done} steps of the canary")

    with readers.running():
        spec = {"kind": "canary", "collection": logs, "version": "v2", "steps": [30, 60, 90], "min_answers": 8}
        job = client.submit_job({**spec, "step_seconds": 0, "max_slower": 100})
        step(1)
        platform.signal("scheduler", signal.SIGKILL)
        step(2)
        platform.signal("nats", signal.SIGKILL)
        ended = client.wait(job.id, timeout=240)
        eventually(lambda: bool(readers.errors) or set(readers.versions[-10:]) == {"v2"}, "answers of v2 alone")
    assert not readers.errors, readers.errors[0]
    assert ended.outputs["promoted"] is True, ended
    assert set(readers.versions) == {"v1", "v2"}
    live = client.collection(logs)
    assert (live.version, live.canary) == ("v2", None)
    assert [version.documents for version in live.versions if version.name == "v2"] == [len(DOCUMENTS)]


def test_a_canary_that_is_cancelled_leaves_every_question_to_the_live_version(
    platform: Platform, client: Client, logs: str
) -> None:
    spec = {"kind": "canary", "collection": logs, "version": "v2", "steps": [100], "min_answers": 1000}
    job = client.submit_job(spec)
    with platform.client() as reader:
        eventually(lambda: reader.query("oil?", collection=logs).collection_version == "v2", "an answer of the canary")
        client.cancel_job(job.id)
        assert client.wait(job.id).state == "cancelled"
        eventually(
            lambda: reader.query("oil?", collection=logs).collection_version == "v1", "an answer of the live one"
        )
    assert client.collection(logs).canary is None
