"""What operators do to the broker, and what happens to it, under load: no query fails.

The broker's nodes have the configuration of the manifests, and the services their settings. Six queries a second come
from outside, a quarter of them streamed, whether those before them have been answered or not. Run it with `-s` to see
how long the slowest took.
"""

import asyncio
import signal
import ssl
import statistics
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager

import httpx
import nats
import pytest
from httpx_sse import aconnect_sse

from shared.nats.client import connect
from shared.security.broker_config import main as broker_config
from tests.chaos.old_broker import AVAILABLE, OLD_BROKER
from tests.harness.broker import BINARY
from tests.harness.deployed import Deployed, deployed
from tests.harness.manifests import render
from tests.harness.nats_nodes import NatsNode, admin
from tests.harness.platform import eventually
from tests.harness.stage_harness import until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

RATE = 6
"""Queries a second."""

BEFORE, AFTER = 2 * RATE, 4 * RATE
"""Queries that begin before an operation, and after it."""

AWAY = 2 * RATE
"""Queries that begin while a node that was killed is away: kubelet starts a container again after a second or two."""

BODY = {"question": "Who built the blue lamp?", "collection": "lamps"}


class Load:
    """Queries at a steady rate. `outcomes` are `answer`, or what came instead; `seconds` are those of the answers."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._headers = {"authorization": f"Bearer {key}"}
        self.begun = 0
        self.outcomes: list[str] = []
        self.seconds: list[float] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Begin queries until told to stop, and see all of them to their end."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with (
            httpx.AsyncClient(
                base_url=self._url, headers=self._headers, trust_env=False, timeout=90, limits=limits
            ) as http,
            asyncio.TaskGroup() as tasks,
        ):
            while not stop.is_set():
                tasks.create_task(self._ask(http, streamed=self.begun % 4 == 0))
                self.begun += 1
                await asyncio.sleep(1 / RATE)

    async def more(self, queries: int) -> None:
        """Wait until so many more queries have begun."""
        enough = self.begun + queries

        async def begun() -> bool:
            return self.begun >= enough

        await until(begun, f"{queries} more queries", patience=120)

    async def _ask(self, http: httpx.AsyncClient, *, streamed: bool) -> None:
        began = time.monotonic()
        try:
            self.outcomes.append(await (self._stream(http) if streamed else self._whole(http)))
        except httpx.HTTPError as error:
            self.outcomes.append(repr(error))
        self.seconds.append(time.monotonic() - began)

    async def _whole(self, http: httpx.AsyncClient) -> str:
        response = await http.post("/v1/query", json=BODY)
        return "answer" if response.is_success and "Ottilie" in response.text else response.text

    async def _stream(self, http: httpx.AsyncClient) -> str:
        async with aconnect_sse(http, "POST", "/v1/query", json=BODY | {"stream": True}) as source:
            if not source.response.is_success:
                return (await source.response.aread()).decode()
            events = [event async for event in source.aiter_sse()]
        text = "".join(event.json()["text"] for event in events if event.event == "delta")
        return "answer" if "Ottilie" in text and events[-1].event == "done" else str(events)


@asynccontextmanager
async def load(platform: Deployed, operation: str) -> AsyncIterator[Load]:
    """Load before, during and after the block; none of its queries may fail, and no service may have ended."""
    running, stop = Load(platform.url, platform.admin_key), asyncio.Event()
    pids = {name: process.pid for name, process in platform.services.items()}
    task = asyncio.create_task(running.run(stop))
    try:
        await running.more(BEFORE)
        yield running
        await running.more(AFTER)
    finally:
        stop.set()
        await task
    failed = [outcome for outcome in running.outcomes if outcome != "answer"]
    print(
        f"\n{operation}: {len(running.outcomes)} queries, {len(failed)} failed, "
        f"median {statistics.median(running.seconds):.2f} s, slowest {max(running.seconds):.1f} s"
    )
    assert not failed, failed[:5]
    for name, process in platform.services.items():
        assert process.pid == pids[name]
        assert "the service cannot go on" not in process.log, f"{name}: {process.log}"


def fill(platform: Deployed) -> None:
    headers = {"authorization": f"Bearer {platform.admin_key}"}
    with httpx.Client(base_url=platform.url, headers=headers, trust_env=False, timeout=60) as http:
        http.post("/v1/collections", json={"name": "lamps"}).raise_for_status()
        documents = [{"name": "lamp.txt", "text": "The blue lamp was built by Ottilie Brandt in 1911."}]
        job = http.post("/v1/collections/lamps/documents", json={"documents": documents}).json()["job"]["id"]
        eventually(lambda: http.get(f"/v1/jobs/{job}").json()["state"] == "succeeded", "the lamp indexed", patience=90)


@pytest.fixture(scope="class")
def one_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with deployed(render("overlays/local"), tmp_path_factory.mktemp("one")) as platform:
        fill(platform)
        yield platform


@pytest.fixture(scope="class")
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Three nodes of an older release of the broker, until a test brings a newer one."""
    program = OLD_BROKER if OLD_BROKER.exists() else BINARY
    with deployed(render("base"), tmp_path_factory.mktemp("three"), nats_server=program) as platform:
        fill(platform)
        yield platform


async def restart(node: NatsNode) -> None:
    """As a Pod of the StatefulSet is restarted."""
    await asyncio.to_thread(node.stop_gently)
    node.start()
    await asyncio.to_thread(node.wait)


async def settle(running: Load) -> None:
    """Load for as long as the StatefulSet waits before it takes the next node."""
    seconds = render("base").get("StatefulSet", "nats")["spec"]["minReadySeconds"]
    await running.more(int(seconds) * RATE)


async def crash(node: NatsNode, running: Load) -> None:
    """kill -9, and some time until it is started again."""
    node.stop()
    await running.more(AWAY)
    node.start()
    await asyncio.to_thread(node.wait)


def change(platform: Deployed, *step: str) -> None:
    """One step of a change of secrets, as `make secrets` takes it."""
    broker_config(["--out", str(platform.secrets), "--tls", "localhost,127.0.0.1", *step])


async def reload(platform: Deployed, running: Load) -> None:
    """Have one node after the other read what it is given, with some load between them."""
    for node in platform.nodes:
        await asyncio.to_thread(node.reload, platform.accounts)
        await running.more(RATE)


async def restart_all(platform: Deployed) -> None:
    for node in platform.nodes:
        node.give(platform.accounts)
        await restart(node)


async def new_password(
    platform: Deployed, user: str, bring: Callable[[], Coroutine[None, None, None]], running: Load
) -> None:
    """All three steps. `bring` has the nodes take what they are given."""
    path = platform.secrets / f"{user}.password"
    old = path.read_text()
    change(platform, "--rotate", user)
    await running.more(RATE)
    change(platform, "--switch", user)
    await bring()
    change(platform, "--retire", user)
    await running.more(RATE)
    new = path.read_text()
    for node in platform.nodes:
        assert await accepts(node, platform, user, new)
        assert not await accepts(node, platform, user, old)


async def accepts(node: NatsNode, platform: Deployed, user: str, password: str) -> bool:
    given = admin(platform.secrets.parent) | {"user": user, "password": password, "allow_reconnect": False}
    try:
        client = await connect(node.url, error_cb=_quiet, **given)
    except nats.errors.Error:
        return False
    await client.close()
    return True


async def _quiet(_: Exception) -> None:
    """What the broker refuses is what is asked for here."""


async def restart_quickly(platform: Deployed, running: Load) -> None:
    """One node after the other, without their Pods' long goodbyes, which other tests try."""
    for node in platform.nodes:
        node.give(platform.accounts)
        await asyncio.to_thread(node.stop, signal.SIGTERM)
        node.start()
        await asyncio.to_thread(node.wait)
        await settle(running)


def certificate(node: NatsNode) -> str:
    return ssl.get_server_certificate(("127.0.0.1", node.ports["client"]))


class TestOneNode:
    async def test_a_planned_restart_of_the_only_node(self, one_node: Deployed) -> None:
        async with load(one_node, "planned restart of one node"):
            await restart(one_node.nodes[0])

    async def test_the_death_of_the_only_node(self, one_node: Deployed) -> None:
        async with load(one_node, "kill -9 of one node") as running:
            await crash(one_node.nodes[0], running)

    async def test_a_new_password_where_there_is_one_node(self, one_node: Deployed) -> None:
        async with load(one_node, "a new password, one node") as running:
            await new_password(one_node, "generator", lambda: restart_all(one_node), running)


class TestThreeNodes:
    async def test_a_rolling_upgrade_of_three_nodes(self, three_nodes: Deployed) -> None:
        before = three_nodes.nodes[0].ask("/varz")["version"]
        async with load(three_nodes, f"rolling upgrade of three nodes from {before}") as running:
            for node in three_nodes.nodes:
                node.program = BINARY
                await restart(node)
                await settle(running)
        versions = {node.ask("/varz")["version"] for node in three_nodes.nodes}
        assert len(versions) == 1
        assert before not in versions or not AVAILABLE

    async def test_the_death_of_each_of_three_nodes(self, three_nodes: Deployed) -> None:
        async with load(three_nodes, "kill -9 of each of three nodes") as running:
            for node in three_nodes.nodes:
                await crash(node, running)
                await settle(running)

    async def test_a_new_password_where_there_are_three_nodes(self, three_nodes: Deployed) -> None:
        async with load(three_nodes, "a new password, three nodes") as running:
            await new_password(three_nodes, "retriever", lambda: reload(three_nodes, running), running)

    async def test_a_new_certificate(self, three_nodes: Deployed) -> None:
        async with load(three_nodes, "a new certificate, three nodes") as running:
            before = certificate(three_nodes.nodes[0])
            change(three_nodes, "--rotate", "certificate")
            await restart_quickly(three_nodes, running)
            assert certificate(three_nodes.nodes[0]) != before

    async def test_a_new_authority(self, three_nodes: Deployed) -> None:
        """Every service connects again in the second step, and in the third."""
        old = (three_nodes.secrets / "ca.crt").read_text()
        async with load(three_nodes, "a new authority, three nodes") as running:
            change(three_nodes, "--rotate", "authority")
            await reload(three_nodes, running)
            change(three_nodes, "--switch", "authority")
            await restart_quickly(three_nodes, running)
            change(three_nodes, "--retire", "authority")
            await restart_quickly(three_nodes, running)
        new = (three_nodes.secrets / "ca.crt").read_text()
        assert old not in new
        assert new not in old
