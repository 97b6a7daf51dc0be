"""Many registered models, few loaded ones, a skewed load, and a predictor that is killed meanwhile."""

import asyncio
import random
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import suite
from benchmarks.load import percentile
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.trained_models import COLUMNS, train_onnx

__all__ = ["Shape", "many_models"]

CLIENTS: Final = 16
SKEW: Final = 1.1
"""The exponent of Zipf's law: with 500 models, 20 get some two thirds of the requests."""

PREDICTORS: Final = 2
KILLED_AT: Final = 0.4
"""The share of the requests after which a predictor is killed."""


@dataclass(frozen=True, slots=True)
class Shape:
    models: int
    loaded: int
    requests: int


async def many_models(shape: Shape) -> dict[str, Any]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for number in range(shape.models):
            train_onnx(folder / "models" / f"m{number}" / "1")
        broker = stack.enter_context(NatsServer(folder / "nats"))
        gateway = stack.enter_context(ServiceProcess("services.gateway", folder / "gateway", nats_url=broker.url))
        predictors = [_predictor(broker.url, folder, number, shape) for number in range(PREDICTORS)]
        for predictor in predictors:
            stack.push(predictor.__exit__)
            predictor.start()
        for predictor in predictors:
            predictor.wait_ready()
        return await _asked(gateway, predictors, shape)


def _predictor(url: str, folder: Path, number: int, shape: Shape) -> ServiceProcess:
    return ServiceProcess(
        "services.predictor",
        folder / f"predictor-{number}",
        nats_url=url,
        model_repository=folder / "models",
        predictor_models=shape.loaded,
        ack_wait=2.0,
    )


async def _asked(gateway: ServiceProcess, predictors: list[ServiceProcess], shape: Shape) -> dict[str, Any]:
    drawn = random.Random(7)  # the same load each time
    weights = [1 / (rank + 1) ** SKEW for rank in range(shape.models)]
    order = drawn.choices(range(shape.models), weights, k=shape.requests)
    left = iter(enumerate(order))
    used: set[int] = set()
    cold: list[float] = []
    warm: list[float] = []
    failures: list[str] = []
    killed = asyncio.Event()

    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60) as http:
        await _known(http, shape.models)

        async def client() -> None:
            for number, model in left:
                if number >= shape.requests * KILLED_AT and not killed.is_set():
                    killed.set()
                    predictors[0].kill()
                    suite.say(f"killed a predictor after {number} requests")
                    restarting.append(asyncio.create_task(asyncio.to_thread(_restart, predictors[0])))
                times, first = (warm, False) if model in used else (cold, True)
                used.add(model)
                body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, COLUMNS], "data": [1, 2, 3, 4]}]}
                began = time.perf_counter()
                answer = await http.post(f"/v2/models/m{model}/infer", json=body)
                times.append(time.perf_counter() - began)
                if answer.status_code != 200:
                    failures.append(f"{answer.status_code} {'first' if first else 'again'}: {answer.text[:200]}")

        restarting: list[asyncio.Task[None]] = []
        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        seconds = time.perf_counter() - began
        await asyncio.gather(*restarting)
        hits = [await _uses(http, predictor) for predictor in predictors]
    for failure in failures[:5]:
        suite.say(failure)
    loaded, all_uses = sum(hit for hit, _ in hits), sum(total for _, total in hits)
    return {
        "models": shape.models,
        "loaded": shape.loaded,
        "requests": shape.requests,
        "seconds": seconds,
        "used": len(used),
        "hit_rate": loaded / all_uses,
        "failed": len(failures),
        **{
            f"{name}_p{share}_ms": percentile(times, share / 100) * 1e3
            for name, times in (("warm", warm), ("cold", cold))
            for share in (50, 99)
        },
    }


def _restart(predictor: ServiceProcess) -> None:
    predictor.start()
    predictor.wait_ready()


async def _known(http: httpx.AsyncClient, models: int) -> None:
    """Until the index lists all models. Raises TimeoutError."""
    async with asyncio.timeout(120):
        for _ in range(600):
            if len((await http.post("/v2/repository/index", json={})).json()) >= models:
                return
            await asyncio.sleep(0.2)


async def _uses(http: httpx.AsyncClient, predictor: ServiceProcess) -> tuple[float, float]:
    """How many requests found their model in memory, and how many there were."""
    page = (await http.get(f"{predictor.url}/metrics")).text
    found = {
        sample.labels["found"]: sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "sluice_predictor_uses_total"
    }
    return found.get("loaded", 0.0), sum(found.values())
