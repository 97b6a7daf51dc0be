"""More models than memory takes, and a predictor that is killed: no request fails."""

import asyncio
import random
from pathlib import Path

import httpx
import pytest

from tests.harness.broker import NatsServer
from tests.harness.gateways import running_gateway
from tests.harness.models import write_doubler
from tests.harness.processes import ServiceProcess

pytestmark = pytest.mark.anyio

REGISTERED = 60
LOADED = 5
CLIENTS = 8
REQUESTS = 30
ROW = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 1, 1]}


async def test_sixty_models_in_the_memory_of_ten_while_a_predictor_is_killed(
    own_broker: NatsServer, tmp_path: Path
) -> None:
    for number in range(REGISTERED):
        write_doubler(tmp_path / "models" / f"m{number}" / "1", factor=float(number))
    first, second = (
        ServiceProcess(
            "services.predictor",
            tmp_path / name,
            nats_url=own_broker.url,
            model_repository=tmp_path / "models",
            predictor_models=LOADED,
            ack_wait=1,
        )
        for name in ("first", "second")
    )
    halfway = asyncio.Event()
    answered = 0

    async def ask(client: httpx.AsyncClient, chosen: random.Random) -> None:
        nonlocal answered
        for _ in range(REQUESTS):
            # Few models get most of the requests.
            number = min(int(chosen.paretovariate(0.5)) - 1, REGISTERED - 1)
            response = await client.post(f"/v2/models/m{number}/infer", json={"inputs": [ROW]})
            assert response.status_code == 200, response.text
            assert response.json()["outputs"][0]["data"] == [float(number)] * 3
            answered += 1
            if answered == CLIENTS * REQUESTS // 2:
                halfway.set()

    with running_gateway(own_broker, tmp_path, default_timeout=120, ack_wait=1) as gateway, first, second:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=150, trust_env=False) as client:
            async with asyncio.TaskGroup() as tasks:
                for seed in range(CLIENTS):
                    tasks.create_task(ask(client, random.Random(seed)))
                await halfway.wait()
                first.kill()
                first.start()
            metrics = (await client.get(f"{second.url}/metrics")).text
    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    assert float(values["sluice_predictor_models_loaded"]) <= LOADED
    assert float(values['sluice_predictor_loads_total{outcome="evicted"}']) > 0
    assert 'sluice_predictor_loads_total{outcome="failed"}' not in values
    assert float(values['sluice_predictor_forwarded_total{outcome="answered"}']) > 0
