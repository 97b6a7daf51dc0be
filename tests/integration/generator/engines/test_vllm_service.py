"""The generator with vLLM as a process: its metrics and logs, its drain, and what its death takes along."""

import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from shared.contracts.envelope import Message, Query, Stop
from shared.contracts.events import Delta, Done
from shared.contracts.generation import GenerateParams, Mode
from shared.nats.subjects import QUERIES
from shared.runtime.replies import Mailbox
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import PATIENCE, StageHarness, open_stage_harness

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(400),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: `make vllm`"),
]


@pytest.fixture(scope="module")
def generators(
    broker: NatsServer, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, ServiceProcess]]:
    """Three, each with a variant of its own, started at the same time: each test is the end of one."""
    with ExitStack() as stack:
        started = {}
        for variant in ("drained", "bereft", "killed"):
            process = ServiceProcess(
                "services.generator",
                tmp_path_factory.mktemp(variant),
                nats_url=broker.url,
                engine="vllm",
                generator_variant=variant,
                vllm_model=tiny_model,
                vllm_served_name="tiny",
                vllm_dtype="float32",
                vllm_max_num_seqs=4,
                vllm_kv_cache_gb=0.25,
            )
            process.start()
            stack.callback(process.__exit__, None, None, None)
            started[variant] = process
        for process in started.values():
            process.wait_ready(300)
        yield started


@pytest.fixture
async def harness(broker: NatsServer) -> AsyncIterator[StageHarness]:
    async with open_stage_harness(broker.url) as harness:
        yield harness


def query(harness: StageHarness, variant: str, max_tokens: int) -> Query:
    params = GenerateParams(mode=Mode.CHAT, temperature=0, ignore_eos=True, max_tokens=max_tokens)
    stop = Stop(stage="generate", variant=variant, params=params.encode())
    messages = (Message(role="user", content="How high is the tower?"),)
    return harness.query("generate", messages=messages).model_copy(update={"slip": (stop,)})


async def first_delta(mailbox: Mailbox) -> None:
    while not isinstance(await mailbox.receive(PATIENCE), Delta):
        pass


def family(process: ServiceProcess) -> list[int]:
    """The processes of vLLM: the engine core, its worker, and what else they have started."""
    import psutil

    return [child.pid for child in psutil.Process(process.pid).children(recursive=True)]


def engine_core(process: ServiceProcess) -> int:
    import psutil

    (core,) = [
        child.pid
        for child in psutil.Process(process.pid).children()
        if any("EngineCore" in word for word in child.cmdline())
    ]
    return core


def until_gone(pids: list[int], patience: float = 20.0) -> None:
    import psutil

    deadline = time.monotonic() + patience
    while alive := [pid for pid in pids if psutil.pid_exists(pid)]:
        assert time.monotonic() < deadline, f"still alive: {[psutil.Process(pid).cmdline() for pid in alive]}"
        time.sleep(0.02)


async def test_metrics_show_the_platforms_figures_and_vllms(
    generators: dict[str, ServiceProcess], harness: StageHarness
) -> None:
    process = generators["drained"]
    await harness.ask(query(harness, "drained", 12))
    async with httpx.AsyncClient(trust_env=False) as client:
        lines = (await client.get(f"{process.url}/metrics")).text.splitlines()
    values = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}

    labels = '{engine="vllm",model="tiny"}'
    assert values[f"sluice_generator_completion_tokens_total{labels}"] >= 12
    assert values[f"sluice_generator_time_to_first_token_seconds_count{labels}"] >= 1
    assert values['vllm:num_requests_running{engine="0",model_name="tiny"}'] == 0
    assert values['vllm:generation_tokens_total{engine="0",model_name="tiny"}'] >= 12
    assert 'vllm:kv_cache_usage_perc{engine="0",model_name="tiny"}' in values
    assert values['sluice_stage_room{lane="interactive",stage="generate",variant="drained"}'] == 4


async def test_the_log_tells_of_the_start_in_json(generators: dict[str, ServiceProcess]) -> None:
    entries = [json.loads(line) for line in generators["drained"].log.splitlines() if line.startswith("{")]
    reported = {entry["message"]: entry for entry in entries}

    assert reported["vLLM is starting"]["level"] == "INFO"
    assert reported["vLLM has started"]["room"] == 4
    assert reported["vLLM has started"]["served_model"] == "tiny"
    assert reported["ready"]["service"] == "generator"
    assert not [entry for entry in entries if entry["logger"].startswith("vllm") and entry["level"] == "INFO"]


async def test_a_generator_whose_engine_dies_gives_its_queries_back_and_exits_with_1(
    generators: dict[str, ServiceProcess], harness: StageHarness
) -> None:
    process = generators["bereft"]
    pids = family(process)
    async with harness.replies_to(query(harness, "bereft", 900)) as mailbox:
        await first_delta(mailbox)
        os.kill(engine_core(process), signal.SIGKILL)

        assert process.wait() == 1
        info = await harness.jetstream.consumer_info(QUERIES, "generate_bereft_interactive")
        assert (info.num_pending or 0) + (info.num_ack_pending or 0) == 1
    until_gone(pids)


async def test_nothing_of_vllm_outlives_a_generator_that_is_killed(
    generators: dict[str, ServiceProcess], harness: StageHarness
) -> None:
    process = generators["killed"]
    pids = family(process)
    assert len(pids) >= 2
    async with harness.replies_to(query(harness, "killed", 900)) as mailbox:
        await first_delta(mailbox)
        process.kill()

    until_gone(pids)


async def test_a_drain_finishes_the_answer_in_flight_and_exits_with_0(
    generators: dict[str, ServiceProcess], harness: StageHarness
) -> None:
    process = generators["drained"]
    pids = family(process)
    async with harness.replies_to(query(harness, "drained", 200)) as mailbox:
        await first_delta(mailbox)
        process.signal(signal.SIGTERM)
        events = await harness.events(mailbox)

    assert isinstance(events[-1], Done)
    assert (events[-1].finish, events[-1].usage.completion_tokens) == ("length", 200)
    assert process.wait() == 0
    until_gone(pids)
