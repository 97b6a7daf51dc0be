"""The job kind `generate_questions`: has a language model write questions about passages of a collection."""

import asyncio
import itertools
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter

from services.scheduler.clients.requests import Reply, Requests
from services.scheduler.evaluation.synthesis import Place, chat_about, draw_places, question_in
from services.scheduler.ingestion.indexer import Indexer
from services.scheduler.jobs.job_context import JobContext
from services.scheduler.jobs.kinds import JobDependencies, JobFunction, Pool, job_kind
from services.scheduler.jobs.retry import PASSING
from shared.contracts.collections import Collection
from shared.contracts.documents import Document
from shared.contracts.jobs import Endpoint, GenerateQuestionsSpec
from shared.contracts.principals import is_permitted
from shared.contracts.problems import Problem, ProblemDetails, ProblemType
from shared.stores.artifacts import Artifacts
from shared.stores.collections import Collections
from shared.stores.documents import Documents

__all__ = ["GenerateQuestionsJob"]

QUESTIONS: Final = "questions.jsonl"
PARTIAL: Final = "partial.json"

DRAWS: Final = 4
"""Passages that are drawn at most for each question that is wanted."""

WARMTH: Final = 0.8
"""The temperature for a passage that was asked about before; the first time it is 0."""

SHORTEST: Final = 120
"""Characters of a passage that says enough to be asked about."""

LONGEST: Final = 4_000
"""Characters of a passage that the model is shown."""

TOKENS: Final = 96

SAVED_SHARE: Final = 16
"""What is written is saved each time that it has grown by this part of itself, so that saving costs little in all."""


class Written(BaseModel):
    """What came of one draw: a question, or none. Without a document there was no reply. A try that goes on takes it
    from here."""

    question: str | None = None
    document: str = ""
    passage: str = ""


_partial: TypeAdapter[list[Written]] = TypeAdapter(list[Written])


@dataclass
class _Set:
    """What is written so far: one entry for each draw, in their order."""

    entries: list[Written] = field(default_factory=list)
    known: set[str] = field(default_factory=set)

    def add(self, entry: Written) -> None:
        if entry.question is not None:
            self.known.add(entry.question.casefold())
        self.entries.append(entry)

    @property
    def questions(self) -> list[Written]:
        return [entry for entry in self.entries if entry.question is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateQuestionsJob:
    """One per process."""

    requests: Requests
    collections: Collections
    documents: Documents
    artifacts: Artifacts
    indexer: Indexer

    async def __call__(self, run: JobContext) -> None:
        """Raises Problem COLLECTION_EMPTY or ORIGINALS_MISSING, what a chat refuses, and INVALID_REQUEST where the
        model writes no question."""
        assert isinstance(run.spec, GenerateQuestionsSpec)
        spec = run.spec
        collection = await self._version(run, spec)
        records = await self._records(run, collection)
        made = await self._earlier(run)
        async with run.reporting():
            run.progress(total=spec.count, done=min(spec.count, len(made.questions)))
            await self._write(run, spec, collection, records, made)
        chosen = made.questions[: spec.count]
        if not chosen:
            detail = f"The model '{spec.model}' wrote no question about {len(made.entries)} passages."
            raise Problem(ProblemType.INVALID_REQUEST, f"{detail} Choose a larger model.")
        await run.attach(QUESTIONS, b"".join(_line(entry) for entry in chosen))
        run.outputs.update(
            questions=len(chosen),
            left_out=sum(entry.question is None and bool(entry.document) for entry in made.entries),
            documents=len({entry.document for entry in chosen}),
            version=collection.queried.name,
        )
        await self.artifacts.delete(run.tenant, f"{run.job.id}/{PARTIAL}")

    async def _version(self, run: JobContext, spec: GenerateQuestionsSpec) -> Collection:
        """The collection as if the version were live that is asked about: also for a later try."""
        collection = await self.collections.get(run.tenant, spec.collection)
        saved = await run.checkpoint()
        name = saved if isinstance(saved, str) else spec.version or collection.live.name
        await run.save(name)
        return collection.as_if(name)

    async def _records(self, run: JobContext, collection: Collection) -> list[Document]:
        """Those that the submitter may see, in an order that a later try finds again."""
        found = await self.documents.list(collection.table, owner=collection.owner)
        records = [record for record in found if is_permitted(record.allowed, run.principals)]
        kept = sorted((record for record in records if record.original), key=lambda record: record.id)
        if not kept:
            raise Problem(
                ProblemType.COLLECTION_EMPTY if not records else ProblemType.ORIGINALS_MISSING,
                f"The collection '{collection.name}' has no documents whose originals are kept.",
            )
        return kept

    async def _write(
        self, run: JobContext, spec: GenerateQuestionsSpec, collection: Collection, records: list[Document], made: _Set
    ) -> None:
        """Draw passages, some at a time, until there are enough questions."""
        saved = len(made.entries)
        places = itertools.islice(draw_places(len(records), spec.seed), len(made.entries), DRAWS * spec.count)
        while len(made.questions) < spec.count:
            group = list(itertools.islice(places, spec.concurrency))
            if not group:
                return
            written = await asyncio.gather(
                *(self._about(run, spec, collection, records[place[0]], place) for place in group)
            )
            for entry in written:
                question = question_in(entry.question or "", entry.passage, made.known)
                passage = entry.passage if question else ""
                made.add(entry.model_copy(update={"question": question, "passage": passage}))
            run.progress(done=min(spec.count, len(made.questions)), message=f"{len(made.entries)} passages read")
            if SAVED_SHARE * (len(made.entries) - saved) >= saved:
                await self.artifacts.put(run.tenant, f"{run.job.id}/{PARTIAL}", _partial.dump_json(made.entries))
                saved = len(made.entries)

    async def _about(
        self, run: JobContext, spec: GenerateQuestionsSpec, collection: Collection, record: Document, place: Place
    ) -> Written:
        """What the model says to one passage of the document."""
        try:
            now = await self.documents.get(collection.table, record.id, owner=collection.owner)
            if now is not None and not is_permitted(now.allowed, run.principals):
                return Written()
            passages = await self._passages(spec, collection, record)
            asked_before, number = divmod(place[1], len(passages))
            passage = passages[number]
            said = await self._said(run, spec, passage, asked_before)
        except Problem as problem:
            if problem.kind in PASSING or problem.kind.status in (401, 403, 404, 429, 503):
                raise
            run.fail_item(record.name, problem)
            return Written()
        return Written(question=said, document=record.name, passage=passage)

    async def _passages(self, spec: GenerateQuestionsSpec, collection: Collection, record: Document) -> list[str]:
        """Those of the document that say enough, in an order of chance; at least one."""
        read = await self.indexer.read(collection, record)
        passages = [chunk.text for chunk in read.chunks if len(chunk.text) >= SHORTEST] or [read.chunks[0].text]
        random.Random(f"{spec.seed}:{record.id}").shuffle(passages)  # noqa: S311
        return [passage[:LONGEST] for passage in passages]

    async def _said(self, run: JobContext, spec: GenerateQuestionsSpec, passage: str, asked_before: int) -> str:
        body = {
            "model": spec.model,
            "messages": chat_about(passage),
            "temperature": WARMTH if asked_before else 0,
            "seed": spec.seed + asked_before,
            "max_completion_tokens": TOKENS,
        }
        reply = await self.requests.send(Endpoint.CHAT, json.dumps(body).encode(), tenant=run.tenant)
        if reply.status != 200:
            raise _refused(reply)
        answer: Mapping[str, Any] = json.loads(reply.body)
        return str(answer["choices"][0]["message"]["content"] or "")

    async def _earlier(self, run: JobContext) -> _Set:
        """What an earlier try has written."""
        made = _Set()
        try:
            data = await self.artifacts.get(run.tenant, f"{run.job.id}/{PARTIAL}")
        except Problem:
            return made
        for entry in _partial.validate_json(data):
            made.add(entry)
        return made


def _line(entry: Written) -> bytes:
    line = {"question": entry.question, "sources": [entry.document], "synthetic": True, "passage": entry.passage}
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def _refused(reply: Reply) -> Problem:
    """What the gateway says in the form of the OpenAI API."""
    error = json.loads(reply.body)["error"]
    return Problem.from_details(ProblemDetails.model_validate(error["sluice"]))


@job_kind(GenerateQuestionsSpec, pool=Pool.LONG)
def generate_questions(parts: JobDependencies) -> JobFunction:
    return GenerateQuestionsJob(
        requests=parts.requests,
        collections=parts.collections,
        documents=parts.documents,
        artifacts=parts.artifacts,
        indexer=parts.indexer,
    )
