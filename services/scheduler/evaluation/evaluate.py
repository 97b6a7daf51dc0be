"""The job kind `evaluate`: asks questions on the batch lane and compares with what was expected."""

import asyncio
import json
import time
from contextlib import suppress
from typing import Any, Final

from nats.errors import Error as NatsError
from pydantic import TypeAdapter

from services.scheduler.clients.embed import PassageEmbedder
from services.scheduler.clients.requests import Requests
from services.scheduler.clients.search import search_stops
from services.scheduler.evaluation.comparison import compare, read_report
from services.scheduler.evaluation.metrics import cosine, mean
from services.scheduler.evaluation.page import as_page
from services.scheduler.evaluation.questions import Answered, Judged, Question, judge, read_questions
from services.scheduler.evaluation.report import as_json, as_picture, intervals_of, metrics_of
from services.scheduler.ingestion.indexer import Indexer
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobDependencies, JobFunction, Pool, job_kind
from shared.contracts.collections import Collection
from shared.contracts.envelope import Passage, unpack_vector
from shared.contracts.jobs import Endpoint, EvaluateSpec
from shared.contracts.problems import Problem, ProblemDetails, ProblemType
from shared.contracts.retrieval import SearchMode
from shared.runtime.requester import Requester
from shared.stores.artifacts import Artifacts
from shared.stores.collections import Collections
from shared.tasks import background, task_group

__all__ = ["EvaluateJob"]

SAVE_EVERY: Final = 10.0
"""Seconds between two copies of the results so far, for a next try."""

EMBEDDED_AT_ONCE: Final = 64
"""Answers in one message to the embedder."""

PARTIAL: Final = "partial.json"

ALL_ALIKE: Final = frozenset(
    {
        ProblemType.COLLECTION_NOT_FOUND,
        ProblemType.COLLECTION_EMPTY,
        ProblemType.PIPELINE_NOT_FOUND,
        ProblemType.VERSION_NOT_READY,
        ProblemType.NOT_FOUND,
    }
)
"""Problems that every question would meet."""

LATER: Final = frozenset(
    {
        ProblemType.STAGE_UNAVAILABLE,
        ProblemType.BROKER_UNAVAILABLE,
        ProblemType.QUEUE_FULL,
        ProblemType.DEADLINE_EXCEEDED,
    }
)
"""Problems that say nothing of a question: the job is tried again, with those that are left."""

_partial: TypeAdapter[dict[int, Judged]] = TypeAdapter(dict[int, Judged])


class EvaluateJob:
    """One per process."""

    def __init__(
        self,
        *,
        stages: Requester,
        requests: Requests,
        collections: Collections,
        artifacts: Artifacts,
        indexer: Indexer,
    ) -> None:
        self._stages = stages
        self._requests = requests
        self._collections = collections
        self._artifacts = artifacts
        self._indexer = indexer

    async def __call__(self, run: JobContext) -> None:
        """Raises Problem NOT_FOUND, INVALID_REQUEST, or what every question would meet. What one question meets is
        told in the report, and counts as an answer that found nothing."""
        assert isinstance(run.spec, EvaluateSpec)
        spec = run.spec
        questions = read_questions(await self._artifacts.get(run.tenant, spec.input), answers=spec.answers)
        before = read_report(await self._artifacts.get(run.tenant, spec.baseline)) if spec.baseline else []
        collection = await self._collections.get(run.tenant, spec.collection)
        # All questions go to one version, also if another one becomes live meanwhile.
        version = spec.version or await self._chosen(run, collection)
        collection = collection.as_if(version)
        results = await self._earlier(run)
        async with run.reporting(), background(self._keep_saving(run, results)):
            run.progress(total=len(questions), done=len(results))
            try:
                await self._ask_all(run, spec, collection, version, questions, results)
            except Problem:
                await self._save(run, results)
                raise
        judged = [results[index] for index in range(len(questions))]
        if spec.answers:
            judged = await self._compared(run, collection, judged)
        metrics = metrics_of(judged, spec.top_k)
        intervals = await asyncio.to_thread(intervals_of, judged, spec.top_k)
        comparison = None
        if spec.baseline is not None:
            comparison = await asyncio.to_thread(compare, spec.baseline, before, judged, spec.top_k)
        picture = as_picture(spec, version, metrics, judged)
        await run.attach("report.json", as_json(spec, version, metrics, judged, intervals, comparison))
        await run.attach("report.svg", picture)
        await run.attach("report.html", as_page(spec, version, judged, intervals, comparison, picture))
        run.outputs.update(metrics, version=version, **(comparison.outputs if comparison else {}))
        await self._artifacts.delete(run.tenant, f"{run.job.id}/{PARTIAL}")

    async def _chosen(self, run: JobContext, collection: Collection) -> str:
        """The version that was live when the first try began."""
        saved = await run.checkpoint()
        if isinstance(saved, str):
            return saved
        await run.save(collection.live.name)
        return collection.live.name

    async def _ask_all(
        self,
        run: JobContext,
        spec: EvaluateSpec,
        collection: Collection,
        version: str,
        questions: list[Question],
        results: dict[int, Judged],
    ) -> None:
        room = asyncio.Semaphore(spec.concurrency)

        async def ask(index: int, question: Question) -> None:
            try:
                results[index] = await self._judged(run, spec, collection, version, question)
            finally:
                room.release()
            if (error := results[index].error) is not None:
                run.fail_item(question.question[:200], Problem(ProblemType.STAGE_FAILED, error))
            run.progress(done=len(results))

        async with task_group() as tasks:
            for index, question in enumerate(questions):
                if index not in results:
                    await room.acquire()
                    tasks.create_task(ask(index, question))

    async def _judged(
        self, run: JobContext, spec: EvaluateSpec, collection: Collection, version: str, question: Question
    ) -> Judged:
        try:
            if spec.answers:
                return await self._answered(run, spec, version, question)
            return await self._searched(run, spec, collection, question)
        except Problem as problem:
            if problem.kind in ALL_ALIKE or problem.kind in LATER:
                raise
            return judge(question, error=str(problem))

    async def _searched(
        self, run: JobContext, spec: EvaluateSpec, collection: Collection, question: Question
    ) -> Judged:
        version = collection.queried
        embed = self._indexer.embed_stop(version)
        options = version.retrieval
        if spec.mode != "hybrid":
            options = options.model_copy(update={"mode": SearchMode(spec.mode)})
        search = search_stops(
            options,
            top_k=spec.top_k,
            rerank_candidates=version.rerank_candidates,
            rerank_params=version.rerank_params,
        )
        slip = search if options.mode is SearchMode.TEXT else (embed, *search)
        began = time.perf_counter()
        found = await self._stages.ask(
            *slip,
            tenant=run.tenant,
            collection=collection.table,
            collection_id=collection.id,
            principals=run.principals,
            question=question.question,
        )
        latency = round((time.perf_counter() - began) * 1e3, 3)
        return judge(question, [passage.document for passage in found.passages], latency_ms=latency)

    async def _answered(self, run: JobContext, spec: EvaluateSpec, version: str, question: Question) -> Judged:
        body = {"question": question.question, "collection": spec.collection, "version": version, "top_k": spec.top_k}
        if spec.pipeline is not None:
            body["pipeline"] = spec.pipeline
        reply = await self._requests.send(
            Endpoint.QUERY, json.dumps(body).encode(), tenant=run.tenant, principals=run.principals
        )
        if reply.status != 200:
            raise Problem.from_details(ProblemDetails.model_validate_json(reply.body))
        answer: dict[str, Any] = json.loads(reply.body)
        sentences = answer.get("supported") or ()
        documents = {source["index"]: source["document"] for source in answer["sources"]}
        return judge(
            question,
            [source["document"] for source in answer["sources"]],
            latency_ms=answer["timings"]["total_ms"],
            answer=Answered(
                answer=answer["answer"],
                cited=tuple(documents[index] for index in answer["cited"] if index in documents),
                answered=_is_answered(answer),
                confidence=answer.get("confidence"),
                supported=mean([float(one["supported"]) for one in sentences]) if sentences else None,
            ),
        )

    async def _compared(self, run: JobContext, collection: Collection, judged: list[Judged]) -> list[Judged]:
        """With the similarity of each answer to the expected one, by the collection's own embedding model."""
        places = [n for n, one in enumerate(judged) if one.answer and one.expected_answer]
        texts = [text for n in places for text in (judged[n].answer or "", judged[n].expected_answer or "")]
        passages = tuple(
            Passage(id=str(n), document_id="", document="", position=0, text=text) for n, text in enumerate(texts)
        )
        if not passages:
            return judged
        embedder = PassageEmbedder(self._stages, most=EMBEDDED_AT_ONCE)
        made = await embedder.embed(
            self._indexer.embed_stop(collection.queried), run.tenant, collection.table, passages
        )
        vectors = [unpack_vector(passage.vector) for passage in made if passage.vector is not None]
        for place, said, wanted in zip(places, vectors[::2], vectors[1::2], strict=True):
            similarity = round(cosine(said, wanted), 6)
            judged[place] = judged[place].model_copy(update={"answer_similarity": similarity})
        return judged

    async def _earlier(self, run: JobContext) -> dict[int, Judged]:
        """The results of an earlier try."""
        try:
            data = await self._artifacts.get(run.tenant, f"{run.job.id}/{PARTIAL}")
        except Problem:
            return {}
        return {index: one for index, one in _partial.validate_json(data).items() if one.error is None}

    async def _keep_saving(self, run: JobContext, results: dict[int, Judged]) -> None:
        saved = len(results)
        while True:
            await asyncio.sleep(SAVE_EVERY)
            if len(results) > saved:
                saved = len(results)
                with suppress(NatsError, TimeoutError):  # the job need not wait for a broker that is away
                    await self._save(run, results)

    async def _save(self, run: JobContext, results: dict[int, Judged]) -> None:
        await self._artifacts.put(run.tenant, f"{run.job.id}/{PARTIAL}", _partial.dump_json(results))


def _is_answered(answer: dict[str, Any]) -> bool:
    """What `answerable` says; for an answer without it, whether it cites a source."""
    stated = answer.get("answerable")
    return bool(answer["cited"]) if stated is None else bool(stated)


@job_kind(EvaluateSpec, pool=Pool.LONG)
def evaluate(parts: JobDependencies) -> JobFunction:
    return EvaluateJob(
        stages=parts.stages,
        requests=parts.requests,
        collections=parts.collections,
        artifacts=parts.artifacts,
        indexer=parts.indexer,
    )
