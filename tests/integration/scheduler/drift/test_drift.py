"""A real scheduler sees in the log of payloads that a model is sent something else."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import nats
import numpy as np
import pytest

from shared.contracts.payloads import InferencePayload, PayloadKind
from shared.stores.payload_log import PayloadLog
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio

RANDOM = np.random.default_rng(7)
SETTINGS = {"drift": True, "drift_reference_rows": 200, "drift_window_rows": 100}


@pytest.fixture
def scheduler(own_broker: NatsServer, tmp_path: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess("services.scheduler", tmp_path, nats_url=own_broker.url, **SETTINGS) as process:
        yield process


async def write(broker: NatsServer, mean: float, start: int, payloads: int) -> None:
    client = await nats.connect(broker.url)
    await client.jetstream().publish("payload.t.iris.request", b"this is no payload")
    for number in range(start, start + payloads):
        rows = RANDOM.normal(mean, 1, (50, 1)).ravel().tolist()
        data = json.dumps({"inputs": [{"name": "x", "shape": [50, 1], "data": rows}]}).encode()
        payload = InferencePayload(
            id=str(number), kind=PayloadKind.REQUEST, tenant="t", model="iris", at=0.0, data=data
        )
        await PayloadLog(client.jetstream()).write(payload)
    await client.close()


async def index(scheduler: ServiceProcess, least: float) -> float:
    async def look() -> float | None:
        async with httpx.AsyncClient(trust_env=False) as http:
            text = (await http.get(f"{scheduler.url}/metrics")).text
        name = 'sluice_drift_stability_index{feature="x",kind="request",model="iris"} '
        found = [float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name)]
        return found[0] if found and found[0] >= least else None

    value: float = await until(look)
    return value


async def test_drift_is_seen_as_it_comes_and_after_a_restart(own_broker: NatsServer, scheduler: ServiceProcess) -> None:
    await write(own_broker, 0.0, 0, 6)
    assert await index(scheduler, 0.0) < 0.4
    await write(own_broker, 3.0, 6, 2)
    assert await index(scheduler, 1.0) > 1
    assert scheduler.stop() == 0
    scheduler.start()
    scheduler.wait_ready()
    assert await index(scheduler, 1.0) > 1


async def test_a_broker_that_restarts_is_followed_on(own_broker: NatsServer, scheduler: ServiceProcess) -> None:
    await write(own_broker, 0.0, 0, 6)
    await index(scheduler, 0.0)
    own_broker.kill(signal.SIGTERM)
    own_broker.start()
    await write(own_broker, 3.0, 6, 2)
    assert await index(scheduler, 1.0) > 1
