"""Controllers for the fake cluster: they run each Job's Pods as processes of this machine, whatever the image."""

import asyncio
import os
import signal
from contextlib import suppress
from typing import Any

from tests.harness.fake_kubernetes import FakeKubernetes, FakePod

__all__ = ["run_pods"]

MISSING = "no.such.registry/"


async def run_pods(server: FakeKubernetes) -> None:
    """Run the Pods of every Job that comes, until cancelled."""
    seen: set[str] = set()
    async with asyncio.TaskGroup() as tasks:
        while True:
            await server.when(lambda: set(server.objects["jobs"]) - seen)
            for name in set(server.objects["jobs"]) - seen:
                seen.add(name)
                tasks.create_task(_Job(server, name).run())


class _Job:
    """The Job controller, for one Job."""

    def __init__(self, server: FakeKubernetes, name: str) -> None:
        self._server = server
        self._name = name
        self._spec: dict[str, Any] = server.objects["jobs"][name]["spec"]
        self._failures = 0

    async def run(self) -> None:
        try:
            async with asyncio.timeout(self._spec.get("activeDeadlineSeconds")):
                succeeded = await self._complete_all()
        except TimeoutError:
            self._server.fail_job(self._name, "DeadlineExceeded", "Job was active longer than specified deadline")
            return
        if self._name not in self._server.objects["jobs"]:
            return
        if succeeded:
            self._server.complete(self._name)
        else:
            self._server.fail_job(self._name)

    async def _complete_all(self) -> bool:
        indexed = self._spec.get("completionMode") == "Indexed"
        slots = asyncio.Semaphore(self._spec["parallelism"])
        indexes = [index if indexed else None for index in range(self._spec["completions"])]
        return all(await asyncio.gather(*(self._complete(index, slots) for index in indexes)))

    async def _complete(self, index: int | None, slots: asyncio.Semaphore) -> bool:
        async with slots:
            while await self._run_pod(index) != 0:
                self._failures += 1
                if self._failures > self._spec["backoffLimit"] or self._name not in self._server.objects["jobs"]:
                    return False
        return True

    async def _run_pod(self, index: int | None) -> int:
        pod = self._server.make_pod(self._name, index)
        (container,) = self._spec["template"]["spec"]["containers"]
        if container["image"].startswith(MISSING):
            pod.waits("ErrImagePull", f"cannot pull {container['image']}")
            self._server.warn(pod.name, "Failed", f'Failed to pull image "{container["image"]}": not found')
            self._server.warn(pod.name, "Failed", "Error: ErrImagePull")
            await self._server.when(lambda: pod.name not in self._server.objects["pods"])
            return 1
        env = {"PATH": os.environ["PATH"]} | {entry["name"]: entry["value"] for entry in container["env"]}
        if index is not None:
            env["JOB_COMPLETION_INDEX"] = str(index)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *container.get("command", ()),
            *container.get("args", ()),
            stdout=pipe,
            stderr=asyncio.subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
        pod.runs()
        try:
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(self._kill_deleted(pod, process))
                assert process.stdout is not None
                async for line in process.stdout:
                    pod.says(line.decode().rstrip("\n"))
                code = await process.wait()
                watching.cancel()
        finally:
            _kill(process)
            # Its pipes close on this loop, which may end soon.
            await process.communicate()
        code = code if code >= 0 else 128 - code
        if pod.name in self._server.objects["pods"]:
            pod.ends(code)
        return code

    async def _kill_deleted(self, pod: FakePod, process: asyncio.subprocess.Process) -> None:
        await self._server.when(lambda: pod.name not in self._server.objects["pods"])
        _kill(process)


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
