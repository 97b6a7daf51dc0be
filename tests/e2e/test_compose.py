"""Sluice in containers, by docker-compose.yml. Runs where a Docker engine has the images: see docs/compose.md."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sluice import Client
from tests.harness.compose import EDGE, SERVICES, Compose, has_image, why_not
from tests.harness.paths import DOCS
from tests.harness.platform import eventually

PROXY = os.environ.get("SLUICE_EDGE_IMAGE", "haproxy:3.2-alpine")

pytestmark = [pytest.mark.skipif(why_not() is not None, reason=str(why_not())), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    with Compose(f"sluice-test-{os.getpid()}") as running:
        with running.client() as client:
            _ingest(client)
        yield running


def _ingest(client: Client) -> None:
    client.create_collection("default")
    job = client.wait(client.upload("default", [DOCS / "ingestion.md", DOCS / "architecture.md"]).id)
    assert job.progress.indexed == 2


class Load:
    """Clients that ask one question after the other."""

    def __init__(self, compose: Compose) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._url, self._key = compose.url, compose.key
        self._ends = threading.Event()

    def ask(self) -> None:
        with Client(self._url, api_key=self._key, timeout=60) as client:
            while not self._ends.is_set():
                try:
                    assert client.query("How are chunks cut?").sources
                    self.answered += 1
                except Exception as error:  # noqa: BLE001  (each is reported)
                    self.failures.append(repr(error))

    @contextmanager
    def running(self, clients: int = 4) -> Iterator["Load"]:
        threads = [threading.Thread(target=self.ask) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._ends.set()
            for thread in threads:
                thread.join()


def test_the_first_query_of_the_readme_is_answered(compose: Compose) -> None:
    with compose.client() as client:
        answer = client.query("How are chunks cut?")
    assert "256 tokens" in answer.answer
    assert answer.sources


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "gateway"])
def test_a_service_is_replaced_under_load_and_no_query_is_lost(compose: Compose, service: str) -> None:
    (before,) = compose.containers(service)
    with Load(compose).running() as load:
        eventually(lambda: load.answered >= 20, "queries before")
        compose.recreate(service)
        answered = load.answered
        eventually(lambda: load.answered >= answered + 20, "queries afterwards")
    (after,) = compose.containers(service)
    assert before["ID"] != after["ID"]
    assert not load.failures


@pytest.mark.skipif(not has_image(PROXY), reason=f"there is no image {PROXY}")
def test_a_gateway_is_replaced_behind_the_proxy_and_no_query_is_lost(compose: Compose) -> None:
    behind = Compose(compose.project, EDGE)
    behind.up()
    (before,) = behind.containers("gateway")
    with Load(behind).running() as load:
        eventually(lambda: load.answered >= 20, "queries before")
        behind.replace("gateway")
        answered = load.answered
        eventually(lambda: load.answered >= answered + 20, "queries afterwards")
    (after,) = behind.containers("gateway")
    assert before["ID"] != after["ID"]
    assert not load.failures
    compose.up("--remove-orphans")


def test_a_stage_runs_in_three_replicas(compose: Compose) -> None:
    def generators(client: Client) -> int:
        return sum(service.service == "generator" and service.ready for service in client.status().services)

    with compose.client() as client:
        compose.up("--no-recreate", "--scale", "generator=3")
        eventually(lambda: generators(client) == 3, "three generators")
        compose.up("--no-recreate", "--scale", "generator=1")
        eventually(lambda: generators(client) == 1, "one generator")
        assert client.query("How are chunks cut?").sources


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_runs_without_root_and_cannot_write_to_its_image(compose: Compose, service: str) -> None:
    assert compose.inside(service, "id", "-u").stdout.strip() == "65532"
    assert compose.inside(service, "touch", "/opt/sluice/written").returncode != 0
    assert compose.inside(service, "touch", "/tmp/written").returncode == 0


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_holds_the_password_of_nobody_else(compose: Compose, service: str) -> None:
    assert compose.inside(service, "ls", "/run/sluice").stdout.split() == ["password"]
    others = {compose.inside(other, "cat", "/run/sluice/password").stdout for other in SERVICES if other != service}
    assert compose.inside(service, "cat", "/run/sluice/password").stdout not in others


def test_all_is_there_again_after_down_and_up(compose: Compose) -> None:
    compose.run("down")
    compose.up()
    with compose.client() as client:
        assert client.query("How are chunks cut?").sources
