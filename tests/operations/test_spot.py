"""A spot node is taken back: SIGTERM to each service in turn under load, and SIGKILL when the notice is over.

Nothing is lost. The services have the drain times of components/spot. A long answer is being streamed and a job is at
work throughout. The gateway that streams it stays, as the component asks for: a connection cannot move to another node.
"""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.harness.manifests import compose
from tests.harness.model_server import WORDS, ModelServer, chunk, event
from tests.harness.models import write_doubler
from tests.harness.processes import ServiceProcess
from tests.harness.secured_broker import SERVICES, secured_broker
from tests.harness.stage_harness import until
from tests.operations.test_rolling_restart import Load

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

LONG = "Tell a long story of the blue lamp."
LAMP = "The blue lamp was built by Ottilie Brandt in 1911."
DOCUMENTS = 150


@dataclass
class SlowModel(ModelServer):
    """Writes short answers at once. Of a long one it writes the beginning, and the rest when it may."""

    may_end: anyio.Event = field(default_factory=anyio.Event)

    async def parts(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        if LONG not in str(body["messages"]):
            yield event(
                {"choices": [{"index": 0, "finish_reason": None, "delta": {"content": "Ottilie built it [1]."}}]}
            )
            yield chunk({}, finish="stop")
            yield b"data: [DONE]\n\n"
            return
        pieces = list(self.pieces(body))
        begun = 0 if body.get("continue_final_message") else 2
        for piece in pieces[:begun]:
            yield event({"choices": [{"index": 0, "finish_reason": None, **piece}]})
        while not self.may_end.is_set():
            yield b": ping\n\n"
            with anyio.move_on_after(0.2):
                await self.may_end.wait()
        for piece in pieces[begun:]:
            yield event({"choices": [{"index": 0, "finish_reason": None, **piece}]})
        yield chunk({}, finish="stop")
        yield b"data: [DONE]\n\n"


class PatientLoad(Load):
    """Asks the other gateway also where one was killed in the middle of an answer."""

    async def _send(self, http: httpx.AsyncClient, turn: int) -> httpx.Response:
        with suppress(httpx.RemoteProtocolError):
            return await super()._send(http, turn)
        return await super()._send(http, turn + 1)


def drain_settings() -> dict[str, dict[str, object]]:
    """The drain times of the component, by service."""
    manifests = compose("predictor", "spot")
    found: dict[str, dict[str, object]] = {}
    for name in SERVICES:
        settings = manifests.settings(manifests.deployment(name))
        found[name] = {"grace_seconds": settings["SLUICE_GRACE_SECONDS"]}
    return found


async def interrupt(process: ServiceProcess, notice: float) -> bool:
    """What a node does that is taken back. Returns whether the process has drained in time."""
    process.signal(15)
    try:
        return await asyncio.to_thread(process.wait, notice) == 0
    except subprocess.TimeoutExpired:
        await asyncio.to_thread(process.kill)
        return False


async def start_again(process: ServiceProcess) -> None:
    """On the same port, once the processes that a killed service has started are gone, which hold it."""

    async def started() -> bool:
        try:
            process.start()
        except OSError:
            return False
        return True

    await until(started, "a free port")
    await asyncio.to_thread(process.wait_ready, 90)


async def stream(url: str, told: list[str]) -> None:
    """Read a long answer to its end."""
    body = {"question": LONG, "collection": "lamps", "timeout": 290, "stream": True}
    async with (
        httpx.AsyncClient(trust_env=False, timeout=300) as http,
        http.stream("POST", f"{url}/v1/query", json=body) as response,
    ):
        async for line in response.aiter_lines():
            told.append(line)  # noqa: PERF401  (others look at it meanwhile)


async def add(http: httpx.AsyncClient, texts: dict[str, str]) -> str:
    documents = [{"name": name, "text": text} for name, text in texts.items()]
    response = await http.post("/v1/collections/lamps/documents", json={"documents": documents})
    job: str = response.json()["job"]["id"]
    return job


@pytest.mark.parametrize("notice", [25.0, 0.3], ids=["drained in time", "killed at once"])
async def test_each_service_in_turn_is_taken_away_under_load_and_nothing_is_lost(tmp_path: Path, notice: float) -> None:
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(SlowModel().run())
        broker = stack.enter_context(secured_broker(tmp_path / "broker"))
        shared = {"data_dir": tmp_path / "data", "ack_wait": 3.0, "reader_workers": 1, "commands": "process"}
        shared["model_repository"] = tmp_path / "models"
        write_doubler(tmp_path / "models" / "doubler" / "1")
        engine: dict[str, object] = {"engine": "openai", "openai_base_url": model.base_url, "openai_api_key": model.key}
        engine |= {"openai_model": "tiny", "openai_resumes": True}
        engine |= {"openai_first_token": 280, "openai_silence": 280}  # the long answer waits for all the interruptions
        drains = drain_settings()
        processes = {
            name: ServiceProcess(
                f"services.{name}",
                tmp_path,
                **shared,
                **broker.settings(name),
                **drains[name],
                **(engine if name == "generator" else {}),
            )
            for name in SERVICES
        }
        steady = ServiceProcess("services.gateway", tmp_path / "steady", **broker.settings("gateway"))
        for process in (*processes.values(), steady):
            stack.push(process.__exit__)
            process.start()
        for process in (*processes.values(), steady):
            await asyncio.to_thread(process.wait_ready)
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=steady.url, trust_env=False, timeout=60))
        await http.post("/v1/collections", json={"name": "lamps"})
        jobs = [await add(http, {"lamp.txt": LAMP})]

        async def ended(job: str) -> bool:
            return (await http.get(f"/v1/jobs/{job}")).json()["state"] in ("succeeded", "failed")

        await until(lambda: ended(jobs[0]), "the lamp indexed", patience=90)
        told: list[str] = []
        story = asyncio.create_task(stream(steady.url, told))
        load = PatientLoad([processes["gateway"], steady])
        running = asyncio.create_task(load.run())
        await load.more()
        drained: dict[str, bool] = {}
        for name, process in processes.items():
            texts = {f"{name}-{n}.txt": f"Lamp {n} of {name} is kept by Keeper{n}." for n in range(DOCUMENTS)}
            jobs.append(await add(http, texts))
            drained[name] = await interrupt(process, notice)
            await start_again(process)
            await load.more()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert not story.done(), told[-6:]
        model.may_end.set()
        await asyncio.wait_for(story, 60)
        for job in jobs:
            await until(lambda job=job: ended(job), f"the job {job} ended", patience=120)  # type: ignore[misc]
        states = [(await http.get(f"/v1/jobs/{job}")).json() for job in jobs]
        listed = (await http.get("/v1/collections/lamps")).json()
    assert set(load.outcomes) == {"answer"}, load.outcomes
    answer = "".join(told)
    assert "event: done" in told, told
    assert "event: error" not in told
    assert all(word.strip() in answer for word in WORDS)
    assert [state["state"] for state in states] == ["succeeded"] * len(jobs)
    assert listed["documents"] == 1 + DOCUMENTS * len(SERVICES)
    if notice > 20:
        assert all(drained.values()), drained
