"""One step of a running pipeline and its jobs."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import anyio
from pydantic import JsonValue, ValidationError

from services.scheduler.pipelines.cache import StepCache
from shared.contracts.jobs import Job, JobOptions, JobSpec, JobState, PipelineStep, RetryPolicy
from shared.contracts.pipelines import (
    MOST_ITEMS,
    ExpressionError,
    Scope,
    StepState,
    StepStatus,
    condition,
    parse,
    resolve,
    step_spec,
)
from shared.contracts.problems import Problem, ProblemType
from shared.stores.dead_letters import DeadLetters
from shared.stores.jobs.retry import run_again
from shared.stores.jobs.store import JobStore

__all__ = ["Child", "Family", "StepRunner", "StepError", "job_ids", "renewed"]

LONGEST_ID: Final = 64
MOST_LABELS: Final = 32


class StepError(Exception):
    """Why a step failed before it had any job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What all jobs of a pipeline share."""

    parent: Job
    name: str
    job_store: JobStore
    dead_letters: DeadLetters
    cache: StepCache
    watched: set[str]
    """The ids of the jobs whose changes matter."""


@dataclass(slots=True, kw_only=True)
class Child:
    """One job of a step. `result` is how it has ended."""

    id: str
    index: int
    spec: JobSpec
    started: bool = False
    message: str = ""
    key: str | None = None
    result: Job | None = None


def child_id(parent: str, step: str, index: int | None = None) -> str:
    """The one id that a step's job has, however often it is submitted."""
    name = f"{parent}-{step}" if index is None else f"{parent}-{step}-{index}"
    if len(name) <= LONGEST_ID:
        return name
    return f"{name[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:23]}"


def job_ids(parent: str, step: str, state: StepState) -> list[str]:
    """The jobs that hold a step's results."""
    return [state.cached.get(index) or own_id(parent, step, state, index) for index in range(state.total)]


def own_id(parent: str, step: str, state: StepState, index: int) -> str:
    """The job that a step has, or would have, for an item; for its only one if it has no list."""
    return state.replaced.get(index) or child_id(parent, step, index if state.looped else None)


async def renewed(parent: Job, step: str, state: StepState, job_store: JobStore) -> StepState:
    """The state of a step that is tried again: jobs of it that have failed run once more, those that were cancelled
    are replaced by others, and what has succeeded counts."""
    failures: dict[str, int] = {}
    replaced = dict(state.replaced)
    for index in range(state.total):
        try:
            job = await job_store.get(parent.tenant, own_id(parent.id, step, state, index))
        except Problem:
            continue  # it was never submitted
        if job.state is JobState.FAILED:
            failures[job.id] = job.event
        elif job.state is JobState.CANCELLED:
            replaced[index] = child_id(parent.id, f"{step}-try{parent.attempt}", index if state.looped else None)
    again = {"status": StepStatus.RUNNING, "reason": "", "finished_at": None}
    return state.model_copy(update=again | {"failures": failures, "replaced": replaced})


class StepRunner:
    """Submits a step's jobs, so many at once, and sees them end. `state` is kept true."""

    def __init__(self, name: str, step: PipelineStep, state: StepState, family: Family) -> None:
        self.name = name
        self.state = state
        self.children: list[Child] = []
        self._step = step
        self._family = family

    def begin(self, scope: Scope) -> StepState:
        """Make the jobs that are to be submitted. Raises StepError."""
        parent = self._family.parent.id
        items = self._items(scope)
        if items is None:
            specs = [self._spec(scope)]
        else:
            specs = [self._spec({**scope, "item": item, "index": index}) for index, item in enumerate(items)]
        self._change(looped=items is not None, total=len(specs))
        for index, spec in enumerate(specs):
            self.children.append(Child(id=own_id(parent, self.name, self.state, index), index=index, spec=spec))
        first = self.children[0].id if self.children and items is None else child_id(parent, self.name)
        return self._change(job=first)

    @property
    def ended(self) -> bool:
        """Nothing of the step runs, and nothing more will be submitted."""
        if self._stopped:
            return all(child.result is not None for child in self.children if child.started)
        return all(child.result is not None for child in self.children)

    @property
    def failures(self) -> list[Job]:
        return [c.result for c in self.children if c.result is not None and c.result.state is not JobState.SUCCEEDED]

    @property
    def running(self) -> list[Child]:
        return [child for child in self.children if child.started and child.result is None]

    async def advance(self, changed: set[str] | None) -> StepState:
        """Look at what runs and has changed (None: at all of it), and submit what there is room for."""
        for child in self.running:
            if changed is None or child.id in changed:
                await self._look(child)
        for child in self.children:
            if self._stopped or len(self.running) >= self._step.parallel:
                break
            if not child.started:
                await self._start(child)
        done = sum(child.result is not None for child in self.children)
        return self._change(done=done, failed=len(self.failures))

    def stop(self) -> None:
        """Submit nothing more."""
        self.children = [child for child in self.children if child.started]

    async def cancel(self, reason: str) -> None:
        for child in self.running:
            try:
                await self._family.job_store.cancel(self._family.parent.tenant, child.id, by=self._by, reason=reason)
            except Problem:
                continue  # it never came to be

    @property
    def _stopped(self) -> bool:
        """After a failure the rest of a list is not begun, unless failures are allowed."""
        return bool(self.failures) and not self._step.allow_failure

    @property
    def _by(self) -> str:
        return f"pipeline {self._family.parent.id}"

    def _items(self, scope: Scope) -> list[JsonValue] | None:
        each = self._step.each
        if each is None:
            return None
        try:
            items = parse(condition(each)).evaluate(scope) if isinstance(each, str) else resolve(each, scope)
        except ExpressionError as error:
            raise StepError(f"each: {error}") from None
        if not isinstance(items, list) or len(items) > MOST_ITEMS:
            raise StepError(f"each: this is not a list of at most {MOST_ITEMS} items")
        return items

    def _spec(self, scope: Mapping[str, Any]) -> JobSpec:
        try:
            return step_spec(resolve(self._step.job, scope), lenient=True)
        except ExpressionError as error:
            raise StepError(str(error)) from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            place = ".".join(map(str, first["loc"][1:]))
            raise StepError(f"{place or 'job'}: {first['msg']} (it is {str(first['input'])[:80]!r})") from None

    async def _start(self, child: Child) -> None:
        """Submit a job, or find it: submitted by an earlier try, or not needed as its result is there."""
        family, tenant = self._family, self._family.parent.tenant
        if self._step.cache:
            child.key = await family.cache.key(tenant, child.spec, family.parent.options.principals)
            known = await family.cache.find(child.key, tenant)
            if known is not None:
                child.started, child.result = True, known
                if known.id != child.id:
                    self._change(cached={**self.state.cached, child.index: known.id})
                return
        child.started = True
        self._family.watched.add(child.id)
        try:
            # A cancel of the pipeline waits for this: what is submitted can be found and cancelled.
            with anyio.CancelScope(shield=True):
                job, _ = await family.job_store.submit(child.spec, job=child.id, tenant=tenant, options=self._options())
                if job.state is JobState.FAILED and job.event <= self.state.failures.get(job.id, -1):
                    job = await run_again(
                        family.job_store,
                        family.dead_letters,
                        tenant,
                        job.id,
                        by=self._by,
                        reason="the pipeline is tried again",
                    )
        except Problem as problem:
            child.started = False
            if problem.kind is ProblemType.QUEUE_FULL:
                return  # there may be room the next time
            raise
        await self._take(child, job)

    async def _look(self, child: Child) -> None:
        await self._take(child, await self._family.job_store.get(self._family.parent.tenant, child.id))

    async def _take(self, child: Child, job: Job) -> None:
        child.message = _said(job)
        if not job.state.ended:
            return
        child.result = job
        self._family.watched.discard(child.id)
        if job.state is JobState.SUCCEEDED and child.key is not None:
            await self._family.cache.keep(child.key, job)

    def _options(self) -> JobOptions:
        parent = self._family.parent.options
        until = [parent.deadline] if parent.deadline is not None else []
        if self._step.timeout is not None:
            until.append(time.time() + self._step.timeout)
        labels = {"pipeline": self._family.name, "step": self.name}
        return JobOptions(
            priority=parent.priority,
            retry=self._step.retry or RetryPolicy(),
            deadline=min(until, default=None),
            labels=labels | dict(list(parent.labels.items())[: MOST_LABELS - len(labels)]),
            by=self._by,
            collections=parent.collections,
            principals=parent.principals,
            parent=self._family.parent.id,
        )

    def _change(self, **members: Any) -> StepState:
        self.state = self.state.model_copy(update=members)
        return self.state


def _said(job: Job) -> str:
    """What a job says of its progress."""
    p = job.progress
    done, total = (p.indexed + p.skipped + p.deleted + p.failed, p.documents) if p.documents else (p.done, p.total)
    count = f"{done:,}/{total:,}" if total else ""
    return " ".join(part for part in (count, p.message) if part)
