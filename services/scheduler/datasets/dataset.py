"""The job kind `dataset`: makes training and test data of feedback, sets of questions and a collection.

Questions are split first, and then mined in parts; each part that is done is kept, so that another try goes on with the
next one. The files are written at the end, part by part.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import partial
from typing import Final

import anyio
from anyio import to_thread
from pydantic import JsonValue

from services.scheduler.datasets.examples import Example, ExampleCollector, LeftOut, Origin
from services.scheduler.datasets.files import Inputs, write_files
from services.scheduler.datasets.mining import Miner
from services.scheduler.datasets.negatives import NegativeOptions
from services.scheduler.datasets.split import FEWEST_TEST, FEWEST_TRAIN, Split, split
from services.scheduler.datasets.state import PART, DatasetState, Parts, digest_of
from services.scheduler.datasets.summary import Summary
from services.scheduler.evaluation.questions import read_questions
from services.scheduler.ingestion.indexer import Indexer
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobDependencies, JobFunction, Pool, job_kind
from services.scheduler.jobs.retry import PASSING
from shared.contracts.collections import Collection
from shared.contracts.feedback import no_feedback
from shared.contracts.jobs import DatasetSpec
from shared.contracts.problems import Problem, ProblemType
from shared.runtime.requester import Requester
from shared.stores.artifacts import Artifacts
from shared.stores.collections import Collections
from shared.stores.feedback import ReadersFeedback

__all__ = ["DatasetJob"]

DAY: Final = 86_400.0

FOUND_OUT: Final = (LeftOut.NOT_THERE, LeftOut.CHANGED, LeftOut.COPIED, LeftOut.FAILED, LeftOut.LIMIT)
"""Why there may be too few only in the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetJob:
    """One per process."""

    stages: Requester
    collections: Collections
    artifacts: Artifacts
    indexer: Indexer
    feedback: ReadersFeedback

    async def __call__(self, context: JobContext) -> None:
        """Raises Problem FORBIDDEN, NOT_FOUND, COLLECTION_NOT_FOUND, INVALID_REQUEST, or what every question would
        meet."""
        assert isinstance(context.spec, DatasetSpec)
        spec = context.spec
        if spec.feedback and not context.job.options.sees_everything:
            raise no_feedback()
        collection = await self.collections.get(context.tenant, spec.collection)
        parts = Parts(self.artifacts, context)
        state = await self._state(context, spec, collection)
        async with context.reporting():
            context.progress(message="reading questions and feedback")
            collector, inputs = await self._collected(context, spec)
            examples = await to_thread.run_sync(collector.examples)
            splitting = partial(split, examples, test_share=spec.test_share, seed=spec.seed, limit=spec.limit)
            sides = await to_thread.run_sync(splitting)
            state = await self._resumed(context, state, sides)
            try:
                await self._mine(context, spec, collection, sides, state, parts)
                await self._finish(context, spec, state, collector, examples, sides, parts, inputs)
            except Problem as problem:
                if problem.kind not in PASSING:
                    await parts.remove(_count(sides))
                raise
            except anyio.get_cancelled_exc_class():
                await context.undo_if_cancelled(partial(parts.remove, _count(sides)))
                raise
            await parts.remove(_count(sides))

    async def _state(self, context: JobContext, spec: DatasetSpec, collection: Collection) -> DatasetState:
        """How far an earlier try has got, or the beginning."""
        saved = await context.checkpoint()
        if saved is not None:
            state = DatasetState.model_validate(saved)
            if state.collection != collection.id:
                raise Problem(ProblemType.COLLECTION_NOT_FOUND, f"The collection '{spec.collection}' was deleted.")
            return state
        version = spec.version or collection.live.name
        collection.as_if(version)
        state = DatasetState(collection=collection.id, version=version)
        await _save(context, state)
        return state

    async def _collected(self, context: JobContext, spec: DatasetSpec) -> tuple[ExampleCollector, Inputs]:
        """What is known of questions, and where it is from."""
        collector = ExampleCollector(spec.collection)
        sources: list[JsonValue] = []
        for name in spec.questions:
            questions = read_questions(await self.artifacts.get(context.tenant, name), answers=True)
            await to_thread.run_sync(collector.add_set, questions)
            digest = await self.artifacts.digest(context.tenant, name)
            sources.append({"artifact": name, "digest": digest, "questions": len(questions)})
        # What is said later is for the next data set: a later try reads the same.
        until = context.job.created_at
        since = _since(spec, until)
        if spec.feedback:
            async for said in self.feedback.of(context.tenant):
                collector.add_feedback(said, since=since, until=until)
        return collector, Inputs(
            sources=sources, records=collector.records, since=None if since == -math.inf else since, until=until
        )

    async def _resumed(self, context: JobContext, state: DatasetState, sides: Split) -> DatasetState:
        """Without the parts of an earlier try where its examples were others: a set was uploaded again, or a reader's
        words were erased."""
        digest = await to_thread.run_sync(digest_of, sides)
        if state.examples != digest:
            state = state.model_copy(update={"examples": digest, "parts": 0})
            await _save(context, state)
        return state

    async def _mine(
        self,
        context: JobContext,
        spec: DatasetSpec,
        collection: Collection,
        sides: Split,
        state: DatasetState,
        parts: Parts,
    ) -> None:
        miner = Miner(
            context,
            self.stages,
            self.indexer,
            collection.as_if(state.version),
            options=NegativeOptions(
                count=spec.negatives,
                relative_margin=spec.relative_margin,
                range_min=spec.range_min,
                range_max=spec.range_max,
            ),
            forbidden=sides.test_documents,
            concurrency=spec.concurrency,
        )
        total = len(sides.train) + len(sides.test)
        done = sum(len(part) for _, part in list(_parts(sides))[: state.parts])
        context.progress(total=total, done=done, message="looking for the passages of each question")
        for number, (is_test, part) in enumerate(_parts(sides)):
            if number < state.parts:
                continue
            await parts.put(number, await miner.mine(part, is_test=is_test))
            # First the part, then the checkpoint: one that is named there is whole.
            state = state.model_copy(update={"parts": number + 1})
            await _save(context, state)
            done += len(part)
            context.progress(done=done)

    async def _finish(
        self,
        context: JobContext,
        spec: DatasetSpec,
        state: DatasetState,
        collector: ExampleCollector,
        examples: Sequence[Example],
        sides: Split,
        parts: Parts,
        inputs: Inputs,
    ) -> None:
        context.progress(message="writing the files")
        summary = Summary(left_out=collector.left_out.copy())
        summary.left_out[LeftOut.LIMIT] += len(examples) - len(sides.train) - len(sides.test)
        count = _count(sides)
        async for part in parts.read(count):
            summary.add(part)
        _check_sides(spec, summary)
        made = await write_files(context, spec, state.version, summary, parts.read(count), inputs)
        said = f"{summary.train.rows:,} rows to train on and {summary.test.rows:,} to test with"
        context.outputs.update(
            hash=made,
            train=summary.train.rows,
            test=summary.test.rows,
            questions=summary.train.questions + summary.test.questions,
            documents=summary.documents,
            preferences=summary.preferences,
            answers=summary.answers,
            negatives=summary.train.negatives + summary.test.negatives,
            feedback=summary.of(Origin.FEEDBACK),
            synthetic=summary.of(Origin.SYNTHETIC),
            left_out=summary.left_out.total(),
            version=state.version,
            message=said,
        )
        context.progress(message=said)


def _parts(sides: Split) -> Iterator[tuple[bool, Sequence[tuple[Example, str]]]]:
    """Runs of examples of one side, and whether that is the test side."""
    for is_test, side in ((False, sides.train), (True, sides.test)):
        for start in range(0, len(side), PART):
            yield is_test, side[start : start + PART]


def _count(sides: Split) -> int:
    return math.ceil(len(sides.train) / PART) + math.ceil(len(sides.test) / PART)


def _since(spec: DatasetSpec, now: float) -> float:
    """The Unix time from which on feedback is used."""
    if spec.since is not None:
        return datetime.combine(spec.since, time(), UTC).timestamp()
    return -math.inf if spec.days is None else now - spec.days * DAY


def _check_sides(spec: DatasetSpec, summary: Summary) -> None:
    """Raises Problem INVALID_REQUEST where too few of the questions have a passage in the collection."""
    train, test = len(summary.train.groups), len(summary.test.groups)
    if train >= FEWEST_TRAIN and test >= FEWEST_TEST:
        return
    reasons = [f"{summary.left_out[reason]:,} questions: {reason}" for reason in FOUND_OUT if summary.left_out[reason]]
    raise Problem(
        ProblemType.INVALID_REQUEST,
        f"Too few questions have a passage in the collection '{spec.collection}': there are {train:,} separate "
        f"documents to train on of {FEWEST_TRAIN} that it takes, and {test:,} to test with of {FEWEST_TEST}. "
        f"Left out are {'; '.join(reasons) or 'none'}. Compare the 'sources' of the questions with the names that "
        f"`sluice documents list {spec.collection}` shows, or add questions.",
    )


async def _save(context: JobContext, state: DatasetState) -> None:
    await context.save(state.model_dump(mode="json"))


@job_kind(DatasetSpec, pool=Pool.LONG)
def dataset(dependencies: JobDependencies) -> JobFunction:
    return DatasetJob(
        stages=dependencies.stages,
        collections=dependencies.collections,
        artifacts=dependencies.artifacts,
        indexer=dependencies.indexer,
        feedback=ReadersFeedback(dependencies.bus.jetstream),
    )
