"""What is known of a training before it begins: whether its data set and its models are there and fit."""

import json
import re
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from services.scheduler.settings import SchedulerSettings
from services.scheduler.training.program import check_base, check_teacher
from services.scheduler.training.settings import Training, missing_packages
from shared.contracts.jobs import Executor, Loss, TrainSpec
from shared.contracts.models import MODEL_NAME, ModelKind
from shared.contracts.problems import Problem, ProblemType
from shared.stores.artifacts import Artifacts
from shared.stores.models import ModelStore

__all__ = ["TrainingChecks", "need_packages", "runs_in_cluster"]

ROWS: Final = {
    "train.parquet": ("rows", "an embedder or a reranker"),
    "answers.parquet": ("answers", "an adapter"),
    "preferences.parquet": ("preferences", "an adapter by the loss 'dpo'"),
}
"""The files that are trained on: what their rows are called where a data set counts them, and what learns of them."""


def runs_in_cluster(spec: TrainSpec, settings: SchedulerSettings) -> bool:
    """Raises Problem TRAINING_REFUSED where training is off, or may not run where the spec says."""
    setting = settings.training
    if setting is Training.OFF:
        raise _refused("Training is off: SLUICE_TRAINING=off is set for the scheduler.")
    cluster = settings.kubernetes_enabled and settings.training_image is not None
    if spec.executor is Executor.KUBERNETES or setting is Training.KUBERNETES:
        if setting is Training.PROCESS or spec.executor is Executor.PROCESS:
            raise _refused(f"Training runs by SLUICE_TRAINING={setting} here, not by the executor {spec.executor}.")
        if settings.training_image is None:
            raise _refused("Training on Kubernetes needs SLUICE_TRAINING_IMAGE, the image of the trainer.")
        return True
    return cluster and spec.executor is Executor.AUTO and setting is Training.AUTO


def need_packages() -> None:
    """Raises Problem TRAINING_REFUSED where a process of this machine cannot train."""
    if missing := missing_packages():
        raise _refused(
            f"Training needs {', '.join(missing)}, which the scheduler's Python does not have. Run `make torch` in a "
            "clone, `pip install 'sluice[train]'` elsewhere."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingChecks:
    """One per process."""

    settings: SchedulerSettings
    artifacts: Artifacts
    models: ModelStore

    async def check(self, tenant: str, spec: TrainSpec) -> None:
        """Look at all that can be known without reading the rows and loading a model.

        Raises Problem NOT_FOUND for a data set that is not there, INVALID_REQUEST for one that has no rows for the
        target and for a model of another kind, MODEL_NOT_FOUND, or TRAINING_REFUSED.
        """
        local = not runs_in_cluster(spec, self.settings)
        if local:
            need_packages()
        check_base(spec.base, self.settings.training_bases, local=local)
        check_teacher(spec.teacher, self.settings.training_bases, local=local)
        await self._check_data(tenant, spec)
        bases: set[ModelKind] = {spec.target}
        if spec.target is ModelKind.RERANKER:
            bases.add(ModelKind.EMBEDDER)
        await self._check_model(tenant, "base", spec.base, bases)
        await self._check_model(tenant, "adapter", spec.adapter, {ModelKind.ADAPTER})
        await self._check_model(tenant, "teacher", spec.teacher, {ModelKind.RERANKER})

    async def _check_model(self, tenant: str, member: str, name: str, kinds: set[ModelKind]) -> None:
        if not re.fullmatch(MODEL_NAME, name):
            return  # none, or one of the trainer's machine
        model = await self.models.get(tenant, name)
        if model.kind not in kinds:
            wanted = " or ".join(sorted(kinds))
            raise _unfit(f"The model '{name}' is of the kind '{model.kind}', and a `{member}` is of the kind {wanted}.")

    async def _check_data(self, tenant: str, spec: TrainSpec) -> None:
        learned, tested = spec.files
        if not await self._has(tenant, spec.dataset, learned):
            there = [file for file in ROWS if await self._has(tenant, spec.dataset, file)]
            if not there:
                raise Problem(
                    ProblemType.NOT_FOUND,
                    f"There is no data set '{spec.dataset}': no job or upload of this name has rows to train on. "
                    "`sluice dataset` makes one.",
                )
            has = ", ".join(f"{file} for {ROWS[file][1]}" for file in there)
            raise _unfit(f"The data set '{spec.dataset}' has no {learned} for {_learner(spec)}; it has {has}.")
        if not await self._has(tenant, spec.dataset, tested):
            raise Problem(ProblemType.NOT_FOUND, f"The data set '{spec.dataset}' has no {tested}, which tests models.")
        if await self._count(tenant, spec.dataset, ROWS[learned][0]) == 0:
            raise _unfit(
                f"The data set '{spec.dataset}' has no {ROWS[learned][0]} to train {_learner(spec)} on: {learned} is "
                "empty."
            )

    async def _has(self, tenant: str, dataset: str, file: str) -> bool:
        try:
            await self.artifacts.size(tenant, f"{dataset}/{file}")
        except Problem as problem:
            if problem.kind is not ProblemType.NOT_FOUND:
                raise
            return False
        return True

    async def _count(self, tenant: str, dataset: str, what: str) -> int | None:
        """How many rows to train on the data set says that it has; None where it says nothing of it."""
        try:
            manifest: JsonValue = json.loads(await self.artifacts.get(tenant, f"{dataset}/dataset.json"))
        except (Problem, ValueError):
            return None
        side = manifest.get("train") if isinstance(manifest, dict) else None
        count = side.get(what) if isinstance(side, dict) else None
        return count if isinstance(count, int) else None


def _learner(spec: TrainSpec) -> str:
    if spec.target is ModelKind.ADAPTER:
        return ROWS["preferences.parquet" if spec.objective is Loss.DPO else "answers.parquet"][1]
    return f"the target '{spec.target}'"


def _unfit(detail: str) -> Problem:
    return Problem(ProblemType.INVALID_REQUEST, f"Training cannot begin. {detail}")


def _refused(detail: str) -> Problem:
    return Problem(ProblemType.TRAINING_REFUSED, detail)
