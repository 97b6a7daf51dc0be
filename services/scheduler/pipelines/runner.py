"""A pipeline from its first step to its end.

Every step is a job, or several, whose ids follow from the pipeline's; submitting one again has no effect. So whoever
takes the pipeline over goes on from what the jobs say. What the checkpoint adds is what they do not say: which steps
were skipped and why.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import anyio
from nats.errors import Error as NatsError

from services.scheduler.jobs.job_context import JobContext
from services.scheduler.pipelines.notifier import Inbox, JobNotifier
from services.scheduler.pipelines.results import Results
from services.scheduler.pipelines.step import Family, StepError, StepRunner, job_ids, renewed
from shared.contracts.jobs import Job, PipelineSpec, PipelineStep
from shared.contracts.pipelines import ExpressionError, PipelineState, Plan, StepState, StepStatus, condition
from shared.contracts.problems import Problem, ProblemType

__all__ = ["PipelineRunner"]

POLL: Final = 2.0
"""Seconds without an event after which the jobs are read."""


class PipelineRunner:
    """One try at a pipeline. `run` may be cancelled; then the steps go on, unless the pipeline is to end."""

    def __init__(self, job: JobContext, spec: PipelineSpec, plan: Plan, family: Family, notifier: JobNotifier) -> None:
        self._job = job
        self._spec = spec
        self._plan = plan
        self._family = family
        self._notifier = notifier
        self._results = Results(job.job.id, spec)
        self._running: dict[str, StepRunner] = {}
        self._states: dict[str, StepState] = {}
        self._saved: PipelineState | None = None

    async def run(self) -> None:
        """Raises Problem STEP_FAILED when a step has failed that must not."""
        await self._take_up()
        with self._notifier.listening(self._family.watched) as inbox:
            await self._notifier.open()
            try:
                async with self._job.reporting():
                    await self._until_ended(inbox)
            except asyncio.CancelledError:
                with anyio.CancelScope(shield=True), suppress(NatsError, TimeoutError, Problem):
                    await self._withdraw()
                raise
        await self._end()

    async def _until_ended(self, inbox: Inbox) -> None:
        changed: set[str] | None = None
        while True:
            await self._advance(changed)
            await self._save()
            if self._ended:
                return
            changed = await inbox.wait(POLL)

    @property
    def _ended(self) -> bool:
        waiting = any(state.status is StepStatus.WAITING for state in self._states.values())
        return not self._running and (bool(self._failed) or not waiting)

    @property
    def _failed(self) -> list[str]:
        """The steps whose failure is the pipeline's."""
        return [
            name
            for name, state in self._states.items()
            if state.status is StepStatus.FAILED and not self._spec.steps[name].allow_failure
        ]

    async def _take_up(self) -> None:
        """Start from what an earlier try has saved. Where the pipeline had failed, what failed is tried again."""
        saved = await self._job.checkpoint()
        before = PipelineState.model_validate(saved) if saved else None
        again = before is not None and 0 < before.failed_in < self._job.job.attempt
        for name in self._plan.order:
            state = before.steps[name] if before else StepState(kind=str(self._spec.steps[name].job["kind"]))
            if again and self._is_to_be_tried_again(name, state):
                state = await renewed(self._job.job, name, state, self._family.job_store)
            self._states[name] = state
        for name, state in list(self._states.items()):
            if state.status.ended:
                self._results.add(name, state, await self._jobs(name, state))
            elif state.status is StepStatus.RUNNING:
                await self._begin(name)

    def _is_to_be_tried_again(self, name: str, state: StepState) -> bool:
        failed = state.status is StepStatus.FAILED and not self._step(name).allow_failure
        return failed or state.status is StepStatus.CANCELLED

    async def _advance(self, changed: set[str] | None) -> None:
        """Look at what runs and has changed, begin what can begin, and again as long as that has ended something."""
        moved = True
        while moved:
            moved = False
            for name in self._plan.order:
                before = self._states[name].status
                if before is StepStatus.WAITING:
                    await self._try_to_begin(name)
                if name in self._running:
                    await self._look(name, changed)
                moved |= self._states[name].status is not before
            changed = set()
        self._show()

    async def _try_to_begin(self, name: str) -> None:
        if self._failed or any(not self._states[need].status.ended for need in self._plan.needs[name]):
            return
        missing = [read for read in self._plan.reads[name] if self._states[read].status is not StepStatus.SUCCEEDED]
        if missing:
            self._close(name, StepStatus.SKIPPED, f"{missing[0]} has {_became(self._states[missing[0]])}")
            return
        when = self._step(name).when
        try:
            holds = when is None or self._results.evaluate(condition(when))
        except ExpressionError as error:
            self._close(name, StepStatus.FAILED, f"when: {error}")
            return
        if not isinstance(holds, bool):
            self._close(name, StepStatus.FAILED, "when: this is not true or false")
        elif not holds:
            self._close(name, StepStatus.SKIPPED, self._results.why_not(condition(str(when))))
        else:
            await self._begin(name)

    async def _begin(self, name: str) -> None:
        running = StepRunner(name, self._step(name), self._states[name], self._family)
        try:
            begun = running.begin(self._results.scope)
        except StepError as error:
            self._close(name, StepStatus.FAILED, str(error))
            return
        started_at = begun.started_at or time.time()
        running.state = begun.model_copy(update={"status": StepStatus.RUNNING, "started_at": started_at})
        self._states[name] = running.state
        self._running[name] = running

    async def _look(self, name: str, changed: set[str] | None) -> None:
        running = self._running[name]
        if self._failed:
            running.stop()
        self._states[name] = await running.advance(changed)
        if not running.ended:
            return
        del self._running[name]
        failures = running.failures
        if failures:
            self._close(name, StepStatus.FAILED, _why(failures))
        elif len(running.children) < self._states[name].total:
            self._close(name, StepStatus.CANCELLED, f"{self._failed[0]} has failed")
        else:
            jobs = [child.result for child in running.children if child.result is not None]
            self._close(name, StepStatus.SUCCEEDED, "", jobs)

    def _close(self, name: str, status: StepStatus, reason: str, jobs: Sequence[Job] = ()) -> None:
        ended = {"status": status, "reason": reason[:500], "finished_at": time.time()}
        self._states[name] = self._states[name].model_copy(update=ended)
        self._results.add(name, self._states[name], jobs)

    async def _jobs(self, name: str, state: StepState) -> list[Job]:
        """The jobs of a step that has succeeded."""
        if state.status is not StepStatus.SUCCEEDED:
            return []
        ids = job_ids(self._job.job.id, name, state)
        return [await self._family.job_store.get(self._job.tenant, job) for job in ids]

    def _step(self, name: str) -> PipelineStep:
        return self._spec.steps[name]

    def _show(self) -> None:
        ended = sum(state.status.ended for state in self._states.values())
        parts = []
        for name, running in self._running.items():
            said = next((child.message for child in running.running if child.message), "")
            count = f" {running.state.done}/{running.state.total}" if running.state.looped else ""
            parts.append(f"{name}{count}{': ' + said if said else ''}")
        self._job.progress(done=ended, total=len(self._states), message="; ".join(parts)[:500])

    async def _save(self, *, failed_in: int = 0) -> None:
        state = PipelineState(name=self._spec.name, steps=dict(self._states), failed_in=failed_in)
        if state != self._saved:
            await self._job.save(state.model_dump(mode="json"))
            self._saved = state

    async def _withdraw(self) -> None:
        """End the steps if the pipeline is to end; else they go on, and so does the pipeline with its next worker."""
        job = await self._family.job_store.get(self._job.tenant, self._job.job.id)
        remaining = self._job.remaining
        if job.cancel_requested or (remaining is not None and remaining <= 0):
            reason = "the pipeline was cancelled" if job.cancel_requested else "the pipeline's time was up"
            for name, running in self._running.items():
                await running.cancel(reason)
                self._close(name, StepStatus.CANCELLED, reason)
            await self._save(failed_in=self._job.job.attempt)

    async def _end(self) -> None:
        table = {name: state.model_dump(mode="json") for name, state in self._states.items()}
        await self._job.attach("steps.json", json.dumps(table, indent=2).encode())
        failed = self._failed
        if failed:
            await self._save(failed_in=self._job.job.attempt)
            reasons = "; ".join(f"{name}: {self._states[name].reason}" for name in failed)
            raise Problem(ProblemType.STEP_FAILED, reasons, steps=failed)
        try:
            outputs = self._results.outputs()
        except ExpressionError as error:
            raise Problem(ProblemType.INVALID_REQUEST, f"outputs: {error}") from None
        self._job.outputs.update(outputs)
        message = outputs.get("message")
        async with self._job.reporting():
            self._job.progress(done=len(self._states), message=message if isinstance(message, str) else "")


def _became(state: StepState) -> str:
    return "failed" if state.status is StepStatus.FAILED else "been skipped"


def _why(failures: Sequence[Job]) -> str:
    first = failures[0]
    reason = first.error.detail or first.error.title if first.error else f"the job was {first.state}"
    return reason if len(failures) == 1 else f"{len(failures)} jobs failed, the first: {reason}"
