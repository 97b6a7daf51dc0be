"""The job kind `tune`: looks for options under which one half of the questions find their documents better, and
compares the best with the default on the other half.

What trials have found is the checkpoint, and what the next trial tries follows from them: after a crash the search goes
on as it would have. Only the comparison at the end asks the held-out questions.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio
from anyio import to_thread

from services.scheduler.collections.reindex import reindex_job
from services.scheduler.collections.switch import switch_job
from services.scheduler.evaluation.comparison import compare
from services.scheduler.evaluation.metrics import mean
from services.scheduler.evaluation.questions import Judged, Question, read_questions
from services.scheduler.evaluation.report import scores_of
from services.scheduler.ingestion.indexer import Indexer
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobDependencies, JobFunction, Pool, job_kind
from services.scheduler.jobs.retry import PASSING
from services.scheduler.tuning.halves import Halves, halves
from services.scheduler.tuning.options import dimensions, option_importances
from services.scheduler.tuning.page import as_page
from services.scheduler.tuning.report import Outcome, as_json, as_lines
from services.scheduler.tuning.search import CANDIDATES, Setting, Space, Trial, best, propose
from services.scheduler.tuning.state import TuneState
from services.scheduler.tuning.trials import DEPTH, Asked, TrialRunner
from services.scheduler.tuning.verdict import verdict
from services.scheduler.tuning.versions import TuneVersions
from shared.contracts.collections import Collection, CollectionVersion
from shared.contracts.jobs import TuneSpec
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.retrieval import RERANK_CANDIDATES
from shared.runtime.requester import Requester
from shared.stores.artifacts import Artifacts
from shared.stores.collections import Collections

__all__ = ["TuneJob"]

METRIC: Final = "ndcg_at_10"
RERANK_PIPELINE: Final = "rerank"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """What one try of a job has at hand."""

    context: JobContext
    spec: TuneSpec
    collection: Collection
    base: CollectionVersion
    halves: Halves
    space: Space
    runner: TrialRunner
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneJob:
    """One per process."""

    stages: Requester
    collections: Collections
    artifacts: Artifacts
    indexer: Indexer
    versions: TuneVersions

    async def __call__(self, context: JobContext) -> None:
        """Raises Problem COLLECTION_NOT_FOUND, NOT_FOUND, INVALID_REQUEST, CONFLICT, or what every question would
        meet."""
        assert isinstance(context.spec, TuneSpec)
        collection = await self.collections.get(context.tenant, context.spec.collection)
        try:
            async with context.reporting():
                await self._tune(context, context.spec, collection)
        except Problem as problem:
            if problem.kind not in PASSING:
                with suppress(Problem):
                    await self.versions.give_up(context, collection)
            raise
        except anyio.get_cancelled_exc_class():
            await context.undo_if_cancelled(partial(self.versions.give_up, context, collection))
            raise

    async def _tune(self, context: JobContext, spec: TuneSpec, collection: Collection) -> None:
        asked = read_questions(await self.artifacts.get(context.tenant, spec.input), answers=True)
        with_sources = [question for question in asked if question.sources]
        split = halves(with_sources)
        _check_name(collection, spec, context.job.id)
        runner = TrialRunner(
            self.stages,
            self.indexer,
            owner=collection.owner,
            concurrency=spec.concurrency,
            principals=context.principals,
        )
        state = await self._state(context, spec, collection, runner)
        base = collection.version(state.base)
        search = _Search(
            context=context,
            spec=spec,
            collection=collection,
            base=base,
            halves=split,
            space=self._space(spec, collection, base, reranks=state.reranks),
            runner=runner,
            left_out=len(asked) - len(with_sources),
        )
        state = await self._search(search, state)
        outcome = await self._compared(search, state)
        await _attach(search, outcome)
        await self._adopt(search, state, outcome)
        context.outputs.update(outcome.outputs)
        context.begin_progress(documents=0, message=outcome.verdict.text)
        context.progress(total=spec.trials, done=len(state.trials))

    async def _state(
        self, context: JobContext, spec: TuneSpec, collection: Collection, runner: TrialRunner
    ) -> TuneState:
        """How far an earlier try has got with the same questions, or the beginning."""
        questions = await self.artifacts.digest(context.tenant, spec.input)
        saved = await context.checkpoint()
        if saved is not None:
            state = TuneState.model_validate(saved)
            if state.collection != collection.id:
                raise Problem(ProblemType.COLLECTION_NOT_FOUND, f"The collection '{spec.collection}' was deleted.")
            if state.questions == questions:
                return state
        live = collection.live
        reranks = spec.rerank and (_usual_candidates(collection, live) > 0 or await runner.has_reranker(live))
        state = TuneState(collection=collection.id, base=live.name, questions=questions, reranks=reranks)
        await _save(context, state)
        return state

    def _space(self, spec: TuneSpec, collection: Collection, base: CollectionVersion, *, reranks: bool) -> Space:
        usual = _usual_candidates(collection, base)
        candidates = {usual, *(CANDIDATES if reranks else ())}
        if collection.pipeline != RERANK_PIPELINE and reranks:
            candidates.add(0)
        own = self.indexer.chunking(base)
        other = (size for size in spec.chunks if self.versions.chunking(base, size) != own)
        return Space(
            base=Setting(retrieval=base.retrieval, rerank_candidates=usual),
            candidates=tuple(sorted(candidates)),
            chunks=(None, *other),
        )

    async def _search(self, search: _Search, state: TuneState) -> TuneState:
        """Trials until there are enough, the time is over, or nothing new is found."""
        context, spec = search.context, search.spec
        _tell(context, spec, state)
        while len(state.trials) < spec.trials and not (spec.seconds and state.trials and state.seconds >= spec.seconds):
            setting = await to_thread.run_sync(partial(propose, state.trials, search.space, spec.seed))
            if setting is None:
                break
            began = time.perf_counter()
            asked = await self._tried(search, state, setting, search.halves.tuned)
            trial = Trial(
                setting=setting,
                score=round(mean(_scores(asked.judged)), 6),
                failed=sum(one.error is not None for one in asked.judged),
                unscored=asked.unscored,
                seconds=round(time.perf_counter() - began, 3),
            )
            if not state.trials:
                _check_found(spec, asked.judged)
            state = state.with_trial(trial)
            leading = best(state.trials).score
            context.log_metrics(len(state.trials), {METRIC: trial.score, "best": leading, "seconds": trial.seconds})
            await _save(context, state)
            _tell(context, spec, state, f"trial {len(state.trials)}: nDCG@10 {trial.score:.3f}, ")
            await context.show()
        return state

    async def _tried(self, search: _Search, state: TuneState, setting: Setting, questions: Sequence[Question]) -> Asked:
        version = search.base
        if setting.chunks is not None:
            version = await self.versions.built(search.context, search.collection, search.base, setting.chunks)
            _tell(search.context, search.spec, state)
        return await search.runner.run(setting, version, questions)

    async def _compared(self, search: _Search, state: TuneState) -> Outcome:
        """The best trial against the default, on the questions that no trial has seen."""
        search.context.progress(message="comparing on the held-out questions")
        chosen, default = best(state.trials), state.trials[0]
        changed = chosen.setting != default.setting
        held_out = search.halves.held_out
        before = (await self._tried(search, state, default.setting, held_out)).judged
        after = (await self._tried(search, state, chosen.setting, held_out)).judged if changed else before
        judging = partial(verdict, _scores(before), _scores(after), search.halves.groups, changed=changed)
        found = await to_thread.run_sync(judging) if state.verdict is None else state.verdict
        return Outcome(
            spec=search.spec,
            version=search.base.name,
            state=state,
            default=default,
            best=chosen,
            verdict=found,
            comparison=await to_thread.run_sync(compare, "the default", before, after, DEPTH),
            tuned=len(search.halves.tuned),
            left_out=search.left_out,
            dimensions=dimensions(state.trials, search.space),
            importances=await to_thread.run_sync(option_importances, state.trials, search.space),
        )

    async def _adopt(self, search: _Search, state: TuneState, outcome: Outcome) -> None:
        """Make a version of what is better, and give up the others."""
        context, spec, collection = search.context, search.spec, search.collection
        if not outcome.verdict.better:
            await self.versions.give_up(context, collection)
            return
        name = state.written or spec.version or await self.versions.free_name(context, collection)
        # First the checkpoint: a try after this one knows the version again, and says of it what this one says.
        await _save(context, state.model_copy(update={"written": name, "verdict": outcome.verdict}))
        written = await self.versions.write(context, collection, search.base.name, outcome.best.setting, name=name)
        await self.versions.give_up(context, collection)
        version = written.version(name)
        context.outputs.update(version=name, documents=version.documents, chunks=version.chunks, live=False)
        if spec.adopt:
            await self.versions.make_live(context, written, spec, name)
        else:
            await self.versions.keep(context, written, spec, name)


def _usual_candidates(collection: Collection, version: CollectionVersion) -> int:
    """Among how many passages the reranker chooses for a query that says nothing of it; 0 where it is not asked."""
    return version.rerank_candidates or (RERANK_CANDIDATES if collection.pipeline == RERANK_PIPELINE else 0)


def _scores(judged: Sequence[Judged]) -> list[float]:
    return [scores_of(one, DEPTH)[METRIC] for one in judged]


def _tell(context: JobContext, spec: TuneSpec, state: TuneState, message: str = "") -> None:
    if state.trials:
        leading = best(state.trials)
        message += f"best so far {leading.score:.3f} with {leading.setting}"
    context.begin_progress(documents=0, message=message)
    context.progress(total=spec.trials, done=len(state.trials))


def _check_name(collection: Collection, spec: TuneSpec, job: str) -> None:
    """Say at once what would come out after the search."""
    known = collection.find(spec.version) if spec.version else None
    if known is not None and known.job != job:
        detail = f"There is a version '{known.name}' already. Choose another name, or none to be given one."
        raise Problem(ProblemType.CONFLICT, detail)


def _check_found(spec: TuneSpec, judged: Sequence[Judged]) -> None:
    """Whether a search that finds nothing at all, by the default, has a reason that holds for every other one."""
    if all(one.error is not None for one in judged):
        raise Problem(ProblemType.STAGE_FAILED, f"No question has a result. The first one: {judged[0].error}")
    if not any(one.rank for one in judged):
        raise Problem(
            ProblemType.INVALID_REQUEST,
            f"No question finds any of its documents in the collection '{spec.collection}'. Compare the 'sources' of "
            f"the questions with the names that `sluice documents list {spec.collection}` shows.",
        )


async def _attach(search: _Search, outcome: Outcome) -> None:
    await search.context.attach("trials.jsonl", as_lines(outcome))
    await search.context.attach("verdict.json", as_json(outcome))
    await search.context.attach("report.html", as_page(outcome))


async def _save(context: JobContext, state: TuneState) -> None:
    await context.save(state.model_dump(mode="json", exclude_none=True))


@job_kind(TuneSpec, pool=Pool.LONG)
def tune(dependencies: JobDependencies) -> JobFunction:
    return TuneJob(
        stages=dependencies.stages,
        collections=dependencies.collections,
        artifacts=dependencies.artifacts,
        indexer=dependencies.indexer,
        versions=TuneVersions(
            collections=dependencies.collections,
            documents=dependencies.documents,
            indexer=dependencies.indexer,
            reindexing=reindex_job(dependencies),
            switching=switch_job(dependencies),
        ),
    )
