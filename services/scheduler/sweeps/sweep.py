"""The job kind `sweep`: trainings with several hyper-parameters, of which the best model is kept.

A trial is a job of the kind `train`, whose id follows from the sweep's. It is in the checkpoint before it is submitted,
and submitting it again has no effect: whoever takes the sweep over goes on with the trials that run.
"""

import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio
from anyio import to_thread

from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobDependencies, JobFunction, Pool, job_kind
from services.scheduler.jobs.retry import PASSING
from services.scheduler.pipelines.notifier import JobNotifier
from services.scheduler.sweeps.curves import TrialCurves
from services.scheduler.sweeps.models import TrialModels
from services.scheduler.sweeps.options import option_importances
from services.scheduler.sweeps.page import SweepReport, as_page
from services.scheduler.sweeps.pruning import judge
from services.scheduler.sweeps.report import WORDS, as_lines, outputs
from services.scheduler.sweeps.search import propose
from services.scheduler.sweeps.state import SweepState, SweepTrial, TrialState, best
from services.scheduler.sweeps.trials import trial_id, with_result
from services.scheduler.training.checks import TrainingChecks
from shared.contracts.jobs import Job, JobOptions, JobState, SweepSpec, TrainSpec, TrialSetting
from shared.contracts.problems import Problem, ProblemType
from shared.stores.artifacts import Artifacts
from shared.stores.jobs.store import JobStore
from shared.stores.releases import ReleaseStore

__all__ = ["SweepJob"]

POLL: Final = 2.0
"""Seconds without an event after which the trials are read."""

MOST_LABELS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepJob:
    """One per process."""

    job_store: JobStore
    notifier: JobNotifier
    trial_models: TrialModels
    artifacts: Artifacts
    checks: TrainingChecks

    async def __call__(self, context: JobContext) -> None:
        """Raises Problem as `TrainingChecks.check` does before any trial, INVALID_REQUEST where trials cannot be
        compared, and TRAINING_FAILED where the default fails."""
        spec = context.spec
        assert isinstance(spec, SweepSpec)
        sweep = _Sweep(self, context, spec)
        await sweep.take_up()
        try:
            async with context.reporting():
                await sweep.run()
        except Problem as problem:
            if problem.kind not in PASSING:
                with suppress(Problem):
                    await sweep.give_up("the sweep has failed")
            raise
        except anyio.get_cancelled_exc_class():
            await context.undo_if_cancelled(partial(sweep.give_up, "the sweep was cancelled"), or_late=True)
            raise


class _Sweep:
    """One try at a sweep."""

    def __init__(self, sweeps: SweepJob, context: JobContext, spec: SweepSpec) -> None:
        self._sweeps = sweeps
        self._context = context
        self._spec = spec
        self._state = SweepState(began=time.time())
        self._submitted: set[str] = set()
        self._curves = TrialCurves(sweeps.job_store, sweeps.artifacts, context.tenant, spec.measure)

    async def take_up(self) -> None:
        """Start from what an earlier try has saved."""
        saved = await self._context.checkpoint()
        if saved is not None:
            self._state = SweepState.model_validate(saved)

    async def run(self) -> None:
        if not self._state.trials:
            await self._sweeps.checks.check(self._context.tenant, self._spec.train)
        watched: set[str] = set()
        with self._sweeps.notifier.listening(watched) as inbox:
            await self._sweeps.notifier.open()
            self._tell()
            while await self._advance(watched):
                await inbox.wait(POLL)
        await self._end()

    async def give_up(self, reason: str) -> None:
        """End the trials that run, and remove the models of all."""
        for trial in self._state.running:
            with suppress(Problem):  # it never came to be
                job = await self._sweeps.job_store.cancel(self._context.tenant, trial.job, by=self._by, reason=reason)
                if job.state.ended:
                    self._state = self._state.changed(with_result(trial, job, self._spec.measure))
        await self._sweeps.trial_models.remove(self._context.tenant, self._state)

    async def _advance(self, watched: set[str]) -> bool:
        """Take in the trials that have ended, and begin those that there is room for. Returns whether any runs."""
        for trial in self._state.running:
            if trial.job in self._submitted:
                await self._look(trial)
        while (setting := await self._next()) is not None:
            number = len(self._state.trials) + 1
            self._state = self._state.begun(SweepTrial(setting=setting, job=trial_id(self._context.job.id, number)))
            await self._save()
        for number, trial in enumerate(self._state.trials, 1):
            if not trial.ended and trial.job not in self._submitted:
                watched.add(trial.job)
                await self._submit(number, trial)
        return bool(self._state.running)

    async def _next(self) -> TrialSetting | None:
        """What another trial has; None where there is no room for one, or no need."""
        state, spec = self._state, self._spec
        late = spec.seconds is not None and time.time() >= state.began + spec.seconds
        if len(state.running) >= spec.parallel or len(state.trials) >= spec.trials or (late and state.trials):
            return None
        return await to_thread.run_sync(partial(propose, state.trials, spec))

    async def _submit(self, number: int, trial: SweepTrial) -> None:
        train = self._train(number, trial)
        try:
            await self._sweeps.job_store.submit(
                train, job=trial.job, tenant=self._context.tenant, options=self._options(number)
            )
        except Problem as problem:
            if problem.kind is ProblemType.QUEUE_FULL:
                return  # there may be room the next time
            raise
        self._submitted.add(trial.job)

    async def _look(self, trial: SweepTrial) -> None:
        """Raises Problem where the default has failed, or has nothing that trials can be compared by."""
        try:
            job = await self._sweeps.job_store.get(self._context.tenant, trial.job)
        except Problem as problem:
            if problem.kind is not ProblemType.NOT_FOUND:
                raise
            ended = trial.model_copy(update={"ended": True, "error": "its job is gone"})
        else:
            if not job.state.ended:
                await self._prune(trial, job)
                return
            ended = with_result(trial, job, self._spec.measure)
        if ended.error and trial.job == self._state.trials[0].job:
            raise Problem(
                ProblemType.TRAINING_FAILED,
                f"The training of the default, job {trial.job}, has failed, so nothing can be compared with it. "
                f"{ended.error}",
            )
        self._state = self._state.changed(ended)
        if ended.state is TrialState.SUCCEEDED and ended.score is None:
            raise Problem(
                ProblemType.INVALID_REQUEST,
                "The trials cannot be compared: too few rows of the data set can be set aside for validation without a "
                "document or a question in common with the rest. Make a larger data set, or raise `validation`.",
            )
        await self._taken_in(ended)

    async def _prune(self, trial: SweepTrial, job: Job) -> None:
        """Ask the job of a trial that does badly to end. That it is to is saved before, so whoever takes the sweep over
        asks as well. The job may have an end of its own before it hears of it, which counts then."""
        if not trial.pruned:
            if not self._spec.prune or job.state is not JobState.RUNNING or trial.job == self._state.trials[0].job:
                return
            if sum(one.score is not None for one in self._state.trials) < self._spec.prune_after:
                return
            curve = await self._curves.running(trial, job)
            if curve is None:
                return
            others = await self._curves.succeeded(self._state.trials)
            verdict = await to_thread.run_sync(judge, curve, others, self._spec)
            if verdict is None:
                return
            changes = {"pruned": verdict.reason, "share": round(verdict.share, 4), "last": verdict.last}
            trial = trial.model_copy(update=changes)
            self._state = self._state.changed(trial)
            await self._save()
        if not job.cancel_requested:
            with suppress(Problem):  # it is gone, as the next look finds
                await self._sweeps.job_store.cancel(
                    self._context.tenant, trial.job, by=self._by, reason=f"pruned: {trial.pruned}"
                )

    async def _taken_in(self, trial: SweepTrial) -> None:
        """A trial has ended: note it, and remove the models that are not the best."""
        leading = self._best
        count = len(self._state.ended)
        if leading is not None and trial.score is not None:
            values = {
                f"{self._spec.measure}_validation": trial.score,
                "best": leading.score or 0.0,
                "seconds": trial.seconds,
            }
            self._context.log_metrics(count, values)
        await self._save()
        await self._sweeps.trial_models.remove(
            self._context.tenant, self._state, keeping=leading.model if leading is not None else ""
        )
        self._tell(trial)

    def _train(self, number: int, trial: SweepTrial) -> TrainSpec:
        train = trial.setting.applied(self._spec.train)
        said = f"trial {number} of the sweep {self._context.job.id}: {trial.setting}"
        return train.model_copy(update={"description": f"{train.description} ({said})".strip()[:1000]})

    def _options(self, number: int) -> JobOptions:
        parent = self._context.job.options
        labels = {"sweep": self._context.job.id, "trial": str(number)}
        return JobOptions(
            priority=parent.priority,
            deadline=parent.deadline,
            labels=labels | dict(list(parent.labels.items())[: MOST_LABELS - len(labels)]),
            by=parent.by,
            collections=parent.collections,
            principals=parent.principals,
            parent=self._context.job.id,
        )

    @property
    def _best(self) -> SweepTrial | None:
        return best(self._state.trials, minimizes=self._spec.minimizes)

    @property
    def _by(self) -> str:
        return f"sweep {self._context.job.id}"

    async def _save(self) -> None:
        await self._context.save(self._state.model_dump(mode="json", exclude_none=True))

    async def _end(self) -> None:
        chosen = self._best
        assert chosen is not None  # the default has a score
        await self._sweeps.trial_models.remove(self._context.tenant, self._state, keeping=chosen.model)
        found = outputs(self._spec, self._state, chosen)
        await self._context.attach("trials.jsonl", as_lines(self._state))
        report = SweepReport(
            job=self._context.job.id,
            spec=self._spec,
            state=self._state,
            chosen=chosen,
            outputs=found,
            importances=await to_thread.run_sync(option_importances, self._spec, self._state),
            histories={trial.job: await self._curves.history(trial) for trial in (self._state.trials[0], chosen)},
        )
        await self._context.attach("report.html", as_page(report))
        self._context.outputs.update(found)
        self._context.progress(total=self._spec.trials, done=len(self._state.ended), message=str(found["message"]))

    def _tell(self, trial: SweepTrial | None = None) -> None:
        parts = []
        if trial is not None and trial.score is not None:
            parts.append(f"{WORDS[self._spec.measure]} {trial.score:.3f} with {trial.setting}")
        elif trial is not None and trial.state is TrialState.PRUNED:
            parts.append(f"pruned with {trial.setting}: {trial.pruned}")
        elif trial is not None:
            parts.append(f"failed with {trial.setting}: {trial.error}")
        if (leading := self._best) is not None and leading is not trial:
            parts.append(f"best so far {leading.score:.3f} with {leading.setting}")
        if self._state.pruned:
            parts.append(f"{self._state.pruned} pruned")
        self._context.progress(
            total=self._spec.trials,
            done=len(self._state.ended),
            failed=self._state.failed,
            message="; ".join(parts)[:500],
        )


@job_kind(SweepSpec, pool=Pool.SWEEP)
def sweep(dependencies: JobDependencies) -> JobFunction:
    return SweepJob(
        job_store=dependencies.job_store,
        notifier=JobNotifier(dependencies.bus.client),
        trial_models=TrialModels(
            models=dependencies.models,
            collections=dependencies.collections,
            releases=ReleaseStore(dependencies.bus.jetstream),
        ),
        artifacts=dependencies.artifacts,
        checks=TrainingChecks(
            settings=dependencies.settings, artifacts=dependencies.artifacts, models=dependencies.models
        ),
    )
