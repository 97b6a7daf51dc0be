"""The models in memory: loaded on first use, and unloaded by least recent use within a budget.

Of those that another predictor has as well, and that are not used much here, the least recently used goes first.

A model is pinned while a request uses it or waits for it, and a pinned model stays. One that has no room yet waits
until another is not pinned any more; it holds nothing meanwhile, so nobody waits in a circle.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Self

from services.predictor.frameworks.base import NotLoadableError
from services.predictor.repository.layout import ModelVersionFiles
from services.predictor.repository.loader import LoadedFiles
from services.predictor.repository.metrics import LOAD_SECONDS, LOADED_MODELS, LOADS, MODEL_BYTES, USES
from services.predictor.repository.use_rate import UseRate
from services.predictor.serving.served_model import ModelLimits, ServedModel
from shared.contracts.problems import Problem, ProblemType
from shared.reasons import told
from shared.tasks import TaskSet

__all__ = ["HOT_PER_SECOND", "ModelPool", "PoolOptions"]

log = logging.getLogger(__name__)

LONGEST_RETRY: Final = 300.0
"""Seconds until a model that did not load is tried again, at most."""

CLOSE_SECONDS: Final = 2.0
"""Seconds in which models may be unloaded at the end of the process."""

HOT_PER_SECOND: Final = 5.0
"""Uses of a model from which on each predictor that is asked for it has a copy: a call of another predictor costs about
a millisecond, and loading a small model a hundred."""

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """`budget` bytes and `models` at most are in memory; `loads` are under way at once, each in a thread of its own,
    and `calls` in others. `batch_rows` are those of a model that names none."""

    budget: int
    models: int
    loads: int
    calls: int
    batch_rows: int
    retry_seconds: float


@dataclass(slots=True)
class _Failure:
    reason: str
    tries: int
    until: float


class _Slot:
    """A model that is in memory, or on its way there. `bytes` is what is set aside for it."""

    def __init__(self, files: ModelVersionFiles) -> None:
        self.files = files
        self.ready: asyncio.Future[ServedModel] = asyncio.get_running_loop().create_future()
        # Nobody may be waiting any more for a model that did not load.
        self.ready.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.stack = AsyncExitStack()
        self.pins = 0
        self.bytes = 0
        self.uses = UseRate()
        self.retired = False

    @property
    def idle(self) -> bool:
        """Whether it may be unloaded."""
        return self.pins == 0 and self.ready.done()


class ModelPool:
    """Loads models with `load` within the block of `running`. `is_spare` says of a version's copy in memory whether
    another predictor keeps one."""

    def __init__(
        self,
        options: PoolOptions,
        load: Callable[[ModelVersionFiles], LoadedFiles],
        *,
        is_spare: Callable[[str, str], bool] = lambda _model, _version: False,
    ) -> None:
        self.changed = asyncio.Event()
        """Set when a model is loaded or goes."""
        self._options = options
        self._load_files = load
        self._is_spare = is_spare
        self._slots: OrderedDict[Key, _Slot] = OrderedDict()
        """The least recently used first."""
        self._failures: dict[Key, _Failure] = {}
        self._freed = asyncio.Condition()
        self._turns = asyncio.Semaphore(options.loads)
        self._work = TaskSet()
        self._used = 0
        self._count = 0
        self._loaders = ThreadPoolExecutor(options.loads, thread_name_prefix="load")
        self._callers = ThreadPoolExecutor(options.calls, thread_name_prefix="predict")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        try:
            yield self
        finally:
            for key in list(self._slots):
                self._retire(key)
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._work.ended()
            self._loaders.shutdown(wait=False, cancel_futures=True)
            self._callers.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def model(self, files: ModelVersionFiles) -> AsyncIterator[ServedModel]:
        """A model, which stays in memory during the block. Raises Problem MODEL_UNAVAILABLE, which says why."""
        slot = self._slot(files)
        slot.pins += 1
        try:
            # The model is also wanted by others, and soon again: whoever leaves does not stop it.
            served = await asyncio.shield(slot.ready)
            yield served
        finally:
            slot.pins -= 1
            if slot.idle:
                if slot.retired:
                    self._work.start(self._unload(slot))
                self._work.start(self._tell())

    @property
    def held(self) -> list[tuple[str, str]]:
        """The name and version of each model that is in memory, or on its way there."""
        return [key[:2] for key in self._slots]

    def holds(self, files: ModelVersionFiles) -> bool:
        """Whether the version is in memory, or on its way there."""
        return files.key in self._slots

    def has_room(self, files: ModelVersionFiles) -> bool:
        """Whether the version can be loaded without another one going."""
        within = self._used + expected_bytes(files) <= self._options.budget
        return within and len(self._slots) < self._options.models

    def is_loaded(self, files: ModelVersionFiles) -> bool:
        slot = self._slots.get(files.key)
        return slot is not None and slot.ready.done() and slot.ready.exception() is None

    def failure(self, files: ModelVersionFiles) -> str:
        """Why the version is not ready, as far as that is known; empty if nothing is."""
        failed = self._failures.get(files.key)
        return files.problem or (failed.reason if failed else "")

    def unload(self, model: str, version: str = "") -> None:
        """Drop a model from memory once no request uses it. The next request loads it again."""
        for key in [key for key in self._slots if key[0] == model and version in ("", key[1])]:
            self._retire(key)
        for key in [key for key in self._failures if key[0] == model and version in ("", key[1])]:
            del self._failures[key]

    def keep_only(self, versions: Iterable[ModelVersionFiles]) -> None:
        """Drop what the repository does not have any more, or has with other files."""
        keys = {version.key for version in versions}
        for key in [key for key in self._slots if key not in keys]:
            self._retire(key)
        for key in [key for key in self._failures if key not in keys]:
            del self._failures[key]

    def _slot(self, files: ModelVersionFiles) -> _Slot:
        slot = self._slots.get(files.key)
        if slot is not None:
            self._slots.move_to_end(files.key)
            slot.uses.count()
            USES.labels("loaded" if slot.ready.done() else "loading").inc()
            return slot
        failed = self._failures.get(files.key)
        if files.problem or (failed is not None and time.monotonic() < failed.until):
            raise _not_ready(files, self.failure(files))
        USES.labels("absent").inc()
        slot = self._slots[files.key] = _Slot(files)
        slot.uses.count()
        self.changed.set()
        self._work.start(self._load(slot))
        return slot

    async def _load(self, slot: _Slot) -> None:
        began = time.perf_counter()
        try:
            async with self._turns:
                await self._make_room(slot)
                served = await self._bring_up(slot)
        except Exception as error:  # noqa: BLE001  (those who wait are told)
            self._fail(slot, error)
        else:
            LOADS.labels("loaded").inc()
            LOAD_SECONDS.observe(time.perf_counter() - began)
            seconds = round(time.perf_counter() - began, 3)
            log.info("loaded", extra={"model": slot.files.model, "version": slot.files.version, "seconds": seconds})
            self._failures.pop(slot.files.key, None)
            slot.ready.set_result(served)
            if slot.retired and slot.idle:
                await self._unload(slot)
            await self._make_fit()
        finally:
            await self._tell()

    async def _make_room(self, slot: _Slot) -> None:
        """Set the memory of a model aside. Raises NotLoadableError for one that never fits."""
        needed = expected_bytes(slot.files)
        self._check_fits(needed)
        async with self._freed:
            while self._used + needed > self._options.budget or self._count >= self._options.models:
                if not await self._evict():
                    await self._freed.wait()
            self._account(slot, needed, 1)

    async def _bring_up(self, slot: _Slot) -> ServedModel:
        loop = asyncio.get_running_loop()
        try:
            loaded = await loop.run_in_executor(self._loaders, self._load_files, slot.files)
            self._account(slot, loaded.bytes - slot.bytes, 0)
            label = f"'{slot.files.model}', version {slot.files.version},"
            served = ServedModel(label, loaded.model, self._limits(slot.files), self._callers)
            slot.stack.push_async_callback(served.close)
            self._check_fits(slot.bytes)
            return await slot.stack.enter_async_context(served.running())
        except BaseException:
            await slot.stack.aclose()
            self._account(slot, -slot.bytes, -1)
            raise

    def _check_fits(self, needed: int) -> None:
        if needed > (budget := self._options.budget):
            raise NotLoadableError(
                f"it takes {needed / 2**20:,.0f} MiB, and all models together may take {budget / 2**20:,.0f} MiB "
                "(SLUICE_PREDICTOR_MEMORY_MB)"
            )

    def _limits(self, files: ModelVersionFiles) -> ModelLimits:
        rows = files.config.max_batch_size
        return ModelLimits(
            batch_rows=self._options.batch_rows if rows is None else rows, waiting=files.config.max_waiting
        )

    async def _make_fit(self) -> None:
        """A model that takes more than was set aside for it makes others go."""
        async with self._freed:
            while self._used > self._options.budget and await self._evict():
                pass

    async def _evict(self) -> bool:
        """Unload a model that nobody uses; False if there is none."""
        idle = [slot for slot in self._slots.values() if slot.idle]
        if not idle:
            return False
        slot = next(filter(self._dispensable, idle), idle[0])
        del self._slots[slot.files.key]
        LOADS.labels("evicted").inc()
        await self._unload(slot)
        return True

    def _dispensable(self, slot: _Slot) -> bool:
        return slot.uses.per_second < HOT_PER_SECOND and self._is_spare(slot.files.model, slot.files.version)

    def _retire(self, key: Key) -> None:
        slot = self._slots.pop(key)
        slot.retired = True
        if slot.idle:
            self._work.start(self._unload(slot))
            self._work.start(self._tell())

    async def _unload(self, slot: _Slot) -> None:
        """Once: the slot has no place any more, and nobody uses it."""
        if slot.ready.exception() is not None:
            return  # it was never brought up
        try:
            await slot.stack.aclose()
        except Exception:
            log.exception("the model %s, version %s, does not unload well", slot.files.model, slot.files.version)
        self._account(slot, -slot.bytes, -1)

    def _fail(self, slot: _Slot, error: Exception) -> None:
        LOADS.labels("failed").inc()
        key, files = slot.files.key, slot.files
        reason = str(error) if isinstance(error, NotLoadableError) else f"{type(error).__name__}: {error}"
        log.warning("the model %s, version %s, does not load: %s", files.model, files.version, reason)
        if self._slots.get(key) is slot:
            del self._slots[key]
            known = self._failures.get(key)
            tries = known.tries + 1 if known else 1
            wait = min(LONGEST_RETRY, self._options.retry_seconds * 2 ** (tries - 1))
            self._failures[key] = _Failure(told(reason, files.folder), tries, time.monotonic() + wait)
        slot.ready.set_exception(_not_ready(files, told(reason, files.folder)))

    def _account(self, slot: _Slot, more: int, models: int) -> None:
        slot.bytes += more
        self._used += more
        self._count += models
        self.changed.set()
        MODEL_BYTES.set(self._used)
        LOADED_MODELS.set(self._count)

    async def _tell(self) -> None:
        async with self._freed:
            self._freed.notify_all()


def expected_bytes(files: ModelVersionFiles) -> int:
    """What is set aside for a model before it is loaded."""
    return files.config.memory_mb * 2**20 if files.config.memory_mb else files.size


def _not_ready(files: ModelVersionFiles, reason: str) -> Problem:
    detail = f"The model '{files.model}', version {files.version}, cannot be loaded: {reason[:1000]}"
    return Problem(ProblemType.MODEL_UNAVAILABLE, detail)
