"""The services of the manifests as processes: their settings and credentials, on the broker of the manifests."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import nats
import pytest

from shared.nats.subjects import QUERIES
from tests.harness.deployed import pod_settings
from tests.harness.manifests import render
from tests.harness.nats_nodes import NatsNode, admin, nodes
from tests.harness.processes import ServiceProcess

pytestmark = pytest.mark.anyio

STARTED = ("scheduler", "gateway", "retriever", "generator")
"""All but the embedder, whose model takes seconds to load: it is the stage that is scaled to zero here."""

Platform = tuple[NatsNode, Path, dict[str, ServiceProcess]]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("platform")
    manifests = render("overlays/local")
    (folder / "admin-key").write_text(secrets.token_hex(32))
    with ExitStack() as stack:
        (node,) = stack.enter_context(nodes(manifests, folder))
        running = {}
        for service in STARTED:
            settings = pod_settings(manifests, service, [node], folder)
            running[service] = ServiceProcess(f"services.{service}", folder / service, **settings)
            stack.callback(running[service].kill)
            running[service].start()
        for process in running.values():
            process.wait_ready()
        yield node, folder, running


async def test_the_queues_that_keda_watches_are_there_before_a_worker_has_run(platform: Platform) -> None:
    node, folder, _ = platform
    client = await nats.connect(node.url, **admin(folder))
    try:
        consumers = {info.name: info for info in await client.jetstream().consumers_info(QUERIES)}
    finally:
        await client.close()
    watched = {
        trigger["metadata"]["consumer"]
        for scaled in render("overlays/keda").of("ScaledObject")
        for trigger in scaled["spec"]["triggers"]
    }
    assert watched <= set(consumers)
    assert not consumers["embed_default_interactive"].num_waiting, "an embedder runs"
    assert consumers["index_default_batch"].config.max_ack_pending == 1


def test_the_gateway_asks_for_the_key_in_its_secret(platform: Platform) -> None:
    _, folder, running = platform
    with httpx.Client(base_url=running["gateway"].url, trust_env=False) as http:
        assert http.get("/readyz").status_code == 200
        assert http.get("/v1/status").status_code == 401
        key = (folder / "admin-key").read_text()
        answer = http.get("/v1/status", headers={"authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    ready = {service["service"] for service in answer.json()["services"] if service["ready"]}
    assert ready == set(STARTED)


def test_no_service_was_refused_anything_by_the_broker(platform: Platform) -> None:
    _, _, running = platform
    for service, process in running.items():
        assert "ermissions violation" not in process.log, f"{service}: {process.log}"
