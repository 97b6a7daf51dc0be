"""The engine's life: its start in a thread of its own, its end, and the news that it has died."""

import asyncio
import gc
import logging
import os
import time
from collections.abc import AsyncGenerator
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from services.generator.engines.base import EngineLostError, EngineName, Item, Prepared, Prompt
from services.generator.engines.vllm import child
from services.generator.engines.vllm.config import VLLMConfig
from shared.contracts.events import Delivered
from shared.contracts.problems import Problem, ProblemType

if TYPE_CHECKING:
    from services.generator.engines.vllm.session import Running

__all__ = ["VLLMEngine"]

log = logging.getLogger(__name__)

WATCH_SECONDS: Final = 0.05

MISSING: Final = (
    "vLLM is not installed. On a machine with a GPU: `pip install 'sluice[vllm]'`; on a CPU, in a clone: `make vllm`."
)


class VLLMEngine:
    """Writes with vLLM's continuous batching; keeps the prompts' common beginnings in the KV cache.

    An answer can be gone on with from its own tokens or text, unless it follows a grammar. Where sampling is greedy
    the continued answer is, token for token, the one that was broken off.
    """

    name = EngineName.VLLM.value
    resumes = True

    def __init__(self, config: VLLMConfig) -> None:
        self._config = config
        self._running: Running | None = None
        self.model = config.served_name or config.model
        self.room = config.max_num_seqs or 1
        self.adapters = tuple(config.adapters)

    @staticmethod
    def obstacle(config: VLLMConfig) -> str:
        """Why an engine with this configuration cannot start, and what to do; empty where nothing is known."""
        if find_spec("vllm") is None:
            return MISSING
        if not config.model:
            return "SLUICE_VLLM_MODEL names no model: give it a folder, or a name on the Hugging Face hub."
        if config.model.startswith(("/", "./", "../")) and not (Path(config.model) / "config.json").is_file():
            return f"There is no model in {config.model}."
        return ""

    async def start(self) -> None:
        """Load the model. Takes seconds to minutes, in which the event loop goes on."""
        if problem := self.obstacle(self._config):
            raise Problem(ProblemType.ENGINE_FAILED, problem)
        if self._running is not None:
            return
        started = time.monotonic()
        log.info("vLLM is starting", extra={"model": self._config.model, "adapters": list(self.adapters)})
        _set_environment(self._config)
        launched: list[Running] = []  # a thread's frames may live on, and with them what it returned
        starting = asyncio.get_running_loop().run_in_executor(None, _launch, self._config, launched)
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(lambda _: _stop_late(launched))
            raise
        running = launched.pop()
        try:
            await running.load_adapters()
        except BaseException:
            await _close(running)
            raise
        self._running, self.model, self.room = running, running.model, running.room
        seconds = round(time.monotonic() - started, 1)
        log.info("vLLM has started", extra={"seconds": seconds, "room": self.room, **running.facts})

    async def close(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            await _close(running)

    @property
    def adapter_rank(self) -> int:
        return self._config.adapter_rank if self._config.added_adapters else 0

    async def add_adapter(self, name: str, folder: Path) -> None:
        await self._started.add_adapter(name, folder)

    async def prepare(self, prompt: Prompt) -> Prepared:
        return await self._started.prepare(prompt)

    def generate(self, prepared: Prepared, after: Delivered | None = None) -> AsyncGenerator[Item, None]:
        return self._started.generate(prepared, after)

    async def lost(self) -> None:
        """Return once the engine is gone and will not come back; never, while it is well or closed."""
        while self._running is None or not self._running.dead:  # noqa: ASYNC110  (vLLM offers no event)
            await anyio.sleep(WATCH_SECONDS)

    @property
    def unfinished(self) -> int:
        """Answers that vLLM is at work on or has waiting."""
        return self._started.unfinished

    @property
    def _started(self) -> "Running":
        if self._running is None:
            raise EngineLostError("vLLM is not running")
        return self._running


def _set_environment(config: VLLMConfig) -> None:
    """What vLLM and its processes read from the environment; what a person has set there stands."""
    defaults = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CONFIGURE_LOGGING": "0",
        # A fork would carry this process's threads' locks and its connections.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        # Replicas on one machine would all bind themselves to its first cores.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        # Threads that spin while they wait for one another starve each other where cores are shared: 40 times slower.
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "PYTHONWARNINGS": "ignore::FutureWarning",
    }
    if Path(config.model).is_dir():
        defaults["HF_HUB_OFFLINE"] = "1"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    os.environ[child.ENVIRONMENT] = child.describe(instance=config.instance, log_level=config.log_level)
    chosen = os.environ.get("VLLM_PLUGINS")
    if chosen is not None and child.PLUGIN not in chosen.split(","):
        os.environ["VLLM_PLUGINS"] = f"{chosen},{child.PLUGIN}".strip(",")
    child.quieten(config.log_level)
    if not entry_points(group=child.GROUP, name=child.PLUGIN):
        log.warning("the package sluice is not installed: vLLM's processes will outlive this one if it is killed")


def _launch(config: VLLMConfig, launched: "list[Running]") -> None:
    from services.generator.engines.vllm.launch import launch

    launched.append(launch(config))


def _stop_late(launched: "list[Running]") -> None:
    """End an engine whose start nobody waited for."""
    for running in launched:
        running.stop()


async def _close(running: "Running") -> None:
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(running.stop)
    # vLLM's own finalizer must not be left to run while the interpreter goes down.
    del running
    gc.collect()
