"""Every operation of the HTTP API, built once without I/O; the two clients only send.

The functions here are what a user sees as the clients' methods, with these names, arguments and texts.
"""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import httpx

from sluice.api.collections import Collection, CollectionPage
from sluice.api.dead_letters import DeadLetter, DeadLetterMessage
from sluice.api.documents import Document, DocumentPage
from sluice.api.jobs import Job
from sluice.api.openai import ModelBody
from sluice.api.pipelines import Pipeline
from sluice.api.queries import Answer
from sluice.api.routing import Route
from sluice.api.status import Status
from sluice.api.traces import Trace
from sluice.api.usage import UsageReport
from sluice.client.call import Call, Upload
from sluice.client.read import get, listing, model, nothing, pairs, segment, submitted

__all__ = [
    "add_texts",
    "collection",
    "collection_page",
    "create_collection",
    "dead_letter",
    "dead_letters",
    "delete_collection",
    "delete_documents",
    "delete_route",
    "discard_dead_letter",
    "document",
    "document_page",
    "models",
    "permit",
    "pipelines",
    "query",
    "replay_dead_letter",
    "route",
    "routes",
    "set_route",
    "status",
    "stream_query",
    "trace",
    "upload",
    "usage",
]

GRACE = 5.0
"""Seconds that the client waits longer than the query's own time-out, so that the server's reason arrives."""
UPLOAD_TIMEOUT = 300.0


def query(
    question: str,
    *,
    collection: str = "default",
    top_k: int = 5,
    filter: Mapping[str, Any] | None = None,  # noqa: A002  (the API's word)
    pipeline: str | None = None,
    timeout: float = 30.0,
    messages: Sequence[Mapping[str, str]] = (),
    conversation: str | None = None,
    generate: Mapping[str, Any] | None = None,
    version: str | None = None,
    rerank: bool = False,
    candidates: int | None = None,
) -> Call[Answer]:
    """Ask a question and wait for the whole answer; `timeout` (seconds) is the query's deadline.

    `messages` are the turns before it, `{"role": ..., "content": ...}`, oldest first. All questions with the same
    `conversation` go to the same variants. `generate` is how to write the answer: `{"max_tokens": 200}`.
    `version` is a version of the collection to ask instead of the live one. With `rerank` the best `top_k` of
    `candidates` passages are used, as the stage `rerank` orders them.
    """
    body = _query_body(question, collection, top_k, filter, pipeline, timeout)
    body |= _said(messages=list(messages), conversation=conversation, generate=generate, version=version)
    body |= _said(rerank=rerank, candidates=candidates)
    return Call(method="POST", path="/v1/query", body=body, parse=model(Answer), timeout=timeout + GRACE)


def stream_query(
    question: str,
    *,
    collection: str = "default",
    top_k: int = 5,
    filter: Mapping[str, Any] | None = None,  # noqa: A002  (the API's word)
    pipeline: str | None = None,
    timeout: float = 30.0,
    messages: Sequence[Mapping[str, str]] = (),
    conversation: str | None = None,
    generate: Mapping[str, Any] | None = None,
    version: str | None = None,
    rerank: bool = False,
    candidates: int | None = None,
) -> Call[None]:
    """Ask a question and read the answer as it comes: `Sources`, then `Delta`s, then `Done`.

    The arguments are those of `query`. A failure, also one in the middle of the answer, raises `SluiceError`.
    """
    body = _query_body(question, collection, top_k, filter, pipeline, timeout) | {"stream": True}
    body |= _said(messages=list(messages), conversation=conversation, generate=generate, version=version)
    body |= _said(rerank=rerank, candidates=candidates)
    return Call(method="POST", path="/v1/query", body=body, parse=nothing, timeout=timeout + GRACE)


def collection_page(*, after: str | None = None, limit: int = 100) -> Call[CollectionPage]:
    """One page of the collections, by name."""
    return get("/v1/collections", params=pairs(after=after, limit=limit), parse=model(CollectionPage))


def collection(name: str) -> Call[Collection]:
    """One collection; `SluiceError` with the code `collection-not-found` where there is none."""
    return get(f"/v1/collections/{segment(name)}", parse=model(Collection))


def create_collection(
    name: str,
    *,
    description: str = "",
    pipeline: str | None = None,
    retrieval: Mapping[str, Any] | None = None,
    embedding_model: str = "",
    rerank_model: str = "",
    adapter: str = "",
) -> Call[Collection]:
    """Create a collection, or return the existing one where its settings are the same. `retrieval` is how it is
    searched where a query says nothing else, such as {"dense_weight": 0.6}. The models are those of the store, such as
    m-0123456789ab; empty for the embedder's own. The `adapter` is one for the generator."""
    body: dict[str, Any] = {"name": name, "description": description, "pipeline": pipeline}
    if retrieval is not None:
        body["retrieval"] = dict(retrieval)
    body |= _said(embedding_model=embedding_model or None, rerank_model=rerank_model or None, adapter=adapter or None)
    return Call(method="POST", path="/v1/collections", body=body, parse=model(Collection))


def delete_collection(name: str) -> Call[Job]:
    """Delete a collection with all its documents; the work is done by the job that this returns."""
    return Call(method="DELETE", path=f"/v1/collections/{segment(name)}", parse=submitted)


def upload(
    collection: str,
    files: Iterable[Path | str | Upload],
    *,
    metadata: Mapping[str, Any] | None = None,
    allowed: Sequence[str] | None = None,
    idempotency_key: str | None = None,
) -> Call[Job]:
    """Send files to a collection; a path's document name is its file name.

    `allowed` are the users and groups that may see them, such as `group:hr`; `public` alone is for everybody, and None
    keeps what they have.
    The files are read at once. One request carries at most 1,000 files and 256 MB; a file at most 50 MB.
    """
    uploads = tuple(file if isinstance(file, Upload) else _read(Path(file)) for file in files)
    return Call(
        method="POST",
        path=_documents_path(collection),
        files=uploads,
        form=_form(metadata, allowed),
        headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
        parse=submitted,
        timeout=UPLOAD_TIMEOUT,
        safe=True,
    )


def add_texts(
    collection: str,
    texts: Mapping[str, str],
    *,
    metadata: Mapping[str, Any] | None = None,
    allowed: Sequence[str] | None = None,
    idempotency_key: str | None = None,
) -> Call[Job]:
    """Add documents from texts by name; `metadata` and `allowed`, as `upload` has them, apply to all of them."""
    about: dict[str, Any] = {"metadata": dict(metadata or {})}
    if allowed is not None:
        about["allowed"] = list(allowed)
    documents = [{"name": name, "text": text, **about} for name, text in texts.items()]
    return Call(
        method="POST",
        path=_documents_path(collection),
        body={"documents": documents},
        headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
        parse=submitted,
        timeout=UPLOAD_TIMEOUT,
        safe=True,
    )


def document_page(
    collection: str, *, prefix: str | None = None, after: str | None = None, limit: int = 100
) -> Call[DocumentPage]:
    """One page of a collection's documents, those whose names begin with `prefix`."""
    params = pairs(prefix=prefix, after=after, limit=limit)
    return get(_documents_path(collection), params=params, parse=model(DocumentPage))


def document(collection: str, document_id: str) -> Call[Document]:
    """One document's record."""
    return get(f"{_documents_path(collection)}/{segment(document_id)}", parse=model(Document))


def permit(collection: str, document_id: str, allowed: Sequence[str]) -> Call[Job]:
    """Say who may see a document: users and groups, such as `user:alice`; `public` alone is for everybody.

    It is in force a second after the job has ended.
    """
    path = f"{_documents_path(collection)}/{segment(document_id)}/permissions"
    return Call(method="PUT", path=path, body={"allowed": list(allowed)}, parse=submitted)


def delete_documents(collection: str, names: Sequence[str]) -> Call[Job]:
    """Delete documents by name; a name that does not exist is no error."""
    if not names:
        raise ValueError("delete_documents wants at least one name")
    params = tuple(("name", name) for name in names)
    return Call(method="DELETE", path=_documents_path(collection), params=params, parse=submitted)


def status() -> Call[Status]:
    """What runs: services, stages, queues, jobs, dead letters."""
    return get("/v1/status", parse=model(Status))


def usage(
    *,
    start: date | str | None = None,
    end: date | str | None = None,
    by: Sequence[str] = ("day",),
    tenant: str | None = None,
) -> Call[UsageReport]:
    """Requests, tokens and costs from day to day (UTC), by default of the last 30 days.

    `by` are the dimensions to sum by: `day`, `tenant`, `key`, `model`. Another `tenant`, `*` for all, and the dimension
    `tenant` are for admins.
    """
    days = {name: str(day) for name, day in (("start", start), ("end", end)) if day is not None}
    return get("/v1/usage", params=pairs(**days, by=",".join(by), tenant=tenant), parse=model(UsageReport))


def trace(id: str) -> Call[Trace]:  # noqa: A002  (the API's word)
    """Where the time of a query or job went; `id` is that of a trace, a query or a job.

    The services remember their last traces only; `SluiceError` with the code `not-found` where none does.
    """
    return get(f"/v1/traces/{segment(id)}", parse=model(Trace))


def models() -> Call[list[ModelBody]]:
    """The models that can be asked, those that write first. A collection is one too, called `rag/<collection>`."""
    return get("/v1/models", parse=listing(ModelBody, "data"))


def pipelines() -> Call[list[Pipeline]]:
    """The pipelines that a query can name."""
    return get("/v1/pipelines", parse=listing(Pipeline, "pipelines"))


def routes() -> Call[list[Route]]:
    """The variants of every stage: who gets which share of the queries, and how many workers serve it."""
    return get("/v1/routes", parse=listing(Route, "routes"))


def route(stage: str) -> Call[Route]:
    """One stage's variants; `SluiceError` with the code `not-found` where there is no such stage."""
    return get(_route_path(stage), parse=model(Route))


def set_route(
    stage: str,
    weights: Mapping[str, float],
    *,
    shadows: Mapping[str, float] | None = None,
    revision: int | None = None,
    by: str = "",
) -> Call[Route]:
    """Share a stage's queries out by weight, and give variants in `shadows` copies of so many percent of them.

    Replaces the whole route. With a `revision` only if that is still the last one; else `SluiceError` with the code
    `precondition-failed`.
    """
    body = {"weights": dict(weights), "shadows": dict(shadows or {}), "by": by}
    headers = _if_match(revision)
    return Call(method="PUT", path=_route_path(stage), body=body, headers=headers, parse=model(Route))


def delete_route(stage: str, *, revision: int | None = None) -> Call[None]:
    """Send all queries of a stage to the variant `default` again, without any shadow."""
    return Call(method="DELETE", path=_route_path(stage), headers=_if_match(revision), parse=nothing)


def dead_letters(*, after: int | None = None, limit: int = 50) -> Call[list[DeadLetter]]:
    """The newest messages that the system gave up on, with their reasons; `after` continues behind that one."""
    params = pairs(after=after, limit=limit)
    return get("/v1/dead-letters", params=params, parse=listing(DeadLetter, "dead_letters"))


def dead_letter(seq: int) -> Call[DeadLetterMessage]:
    """One of them, with its message as text."""
    return get(f"/v1/dead-letters/{seq}", parse=model(DeadLetterMessage))


def replay_dead_letter(seq: int) -> Call[Answer | None]:
    """Send a dead letter again to where it was bound. A query's is answered; other work has no answer."""
    return Call(method="POST", path=f"/v1/dead-letters/{seq}/replay", parse=_replayed)


def discard_dead_letter(seq: int) -> Call[None]:
    """Forget a dead letter: its work is never tried again."""
    return Call(method="DELETE", path=f"/v1/dead-letters/{seq}", parse=nothing)


def _query_body(
    question: str,
    collection: str,
    top_k: int,
    metadata_filter: Mapping[str, Any] | None,
    pipeline: str | None,
    timeout: float,
) -> dict[str, Any]:
    return {
        "question": question,
        "collection": collection,
        "top_k": top_k,
        "filter": metadata_filter,
        "pipeline": pipeline,
        "timeout": timeout,
    }


def _said(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}


def _read(path: Path) -> Upload:
    return Upload(name=path.name, content=path.read_bytes())


def _form(metadata: Mapping[str, Any] | None, allowed: Sequence[str] | None) -> dict[str, str]:
    form = {"metadata": json.dumps(dict(metadata))} if metadata else {}
    return form if allowed is None else {**form, "allowed": json.dumps(list(allowed))}


def _documents_path(collection: str) -> str:
    return f"/v1/collections/{segment(collection)}/documents"


def _route_path(stage: str) -> str:
    return f"/v1/routes/{segment(stage)}"


def _if_match(revision: int | None) -> dict[str, str]:
    return {} if revision is None else {"If-Match": f'"{revision}"'}


def _replayed(response: httpx.Response) -> Answer | None:
    return Answer.model_validate(response.json()) if "answer" in response.json() else None
