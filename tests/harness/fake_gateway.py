"""A gateway without services behind it: the HTTP API over dictionaries, with faults to order."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, UploadFile
from fastapi.responses import JSONResponse, Response, StreamingResponse

SOURCE = {
    "index": 1,
    "document": "docs/warranty.md",
    "document_id": "d1",
    "position": 2,
    "text": "The warranty runs\nfor 24 months.",
    "score": 0.912,
    "metadata": {},
}
END = {
    "id": "q1",
    "usage": {"prompt_tokens": 9, "completion_tokens": 4},
    "timings": {
        "total_ms": 31.5,
        "first_delta_ms": 12.0,
        "stages": [
            {"stage": "embed", "variant": "default", "worker": "e-1", "waited_ms": 1.0, "worked_ms": 8.0},
        ],
    },
    "engine": "extractive",
    "trace_id": "0" * 32,
}
STATUS = {
    "version": "9.9.9",
    "broker": {"url": "nats://127.0.0.1:4222", "version": "2.15.1"},
    "services": [
        {
            "service": "embedder",
            "instance": "e-1",
            "ready": True,
            "started_at": "2026-01-01T00:00:00Z",
            "stages": [
                {"stage": "embed", "variant": "default", "lane_in_flight": {"interactive": 1, "batch": 2}, "room": 8}
            ],
        }
    ],
    "queues": [{"stage": "embed", "variant": "default", "lane": "interactive", "waiting": 3, "in_flight": 1}],
    "jobs": {"waiting": 4, "in_flight": 1},
    "dead_letters": 2,
}


@dataclass
class FakeGateway:
    """What it holds, what it was asked, and what it is to do wrong."""

    url: str = ""
    collections: dict[str, dict[str, bytes]] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    queries: list[dict[str, Any]] = field(default_factory=list)
    uploads: list[list[str]] = field(default_factory=list)
    deletions: list[list[str]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    broken_documents: dict[str, str] = field(default_factory=dict)
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Answers to the next requests, instead of doing them: status and headers."""
    dropped_watches: int = 0
    """So many streams of job events end early, as if the gateway were restarted."""
    answer_fails: str = ""
    """The detail of a problem in the middle of the answer."""
    end: dict[str, Any] = field(default_factory=dict)
    """What the end of an answer says besides the usual."""

    def problem(self, status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> Response:
        body = {"type": f"urn:sluice:problem:{code}", "title": code, "status": status, "detail": detail}
        return JSONResponse(body, status, headers, media_type="application/problem+json")

    def job(self, kind: str, collection: str, progress: dict[str, int], errors: list[dict[str, str]]) -> dict[str, Any]:
        job = {"id": f"job-{len(self.jobs) + 1}", "kind": kind, "state": "succeeded", "collection": collection}
        self.jobs[job["id"]] = {**job, "progress": progress, "errors": errors, "created_at": "2026-01-01T00:00:00Z"}
        return self.jobs[job["id"]]


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def build(fake: FakeGateway) -> FastAPI:
    app = FastAPI()

    @app.middleware("http")
    async def _journal(request: Request, call_next: Any) -> Response:
        fake.requests.append(f"{request.method} {request.url.path}")
        fake.keys.append(request.headers.get("authorization"))
        if fake.refusals:
            status, headers = fake.refusals.pop(0)
            return fake.problem(status, "queue-full", "too many queries wait", headers)
        response: Response = await call_next(request)
        return response

    @app.post("/v1/query")
    async def _query(request: Request) -> Response:
        query = await request.json()
        fake.queries.append(query)
        if query["collection"] == "missing":
            return fake.problem(404, "collection-not-found", "there is no collection 'missing'")
        if not query.get("stream"):
            return JSONResponse({**END, **fake.end, "answer": "24 months [1].", "sources": [SOURCE]})

        async def stream() -> AsyncIterator[str]:
            yield _event("sources", {"id": "q1", "sources": [SOURCE]})
            yield ": still here\n\n"
            yield _event("delta", {"text": "24 "})
            yield _event("surprise", {})
            if fake.answer_fails:
                problem = {"type": "urn:sluice:problem:engine-failed", "title": "The engine failed", "status": 502}
                yield _event("error", {**problem, "detail": fake.answer_fails})
                return
            yield _event("delta", {"text": "months [1]."})
            yield _event("done", {**END, **fake.end})

        return StreamingResponse(stream(), media_type="text/event-stream")

    @app.get("/v1/collections")
    async def _collections() -> Any:
        return {"collections": [{"name": n, "documents": len(d)} for n, d in fake.collections.items()]}

    @app.get("/v1/collections/{name}")
    async def _collection(name: str) -> Any:
        if name not in fake.collections:
            return fake.problem(404, "collection-not-found", f"there is no collection '{name}'")
        return {"name": name, "documents": len(fake.collections[name])}

    @app.post("/v1/collections", status_code=201)
    async def _create(request: Request) -> Any:
        name = (await request.json())["name"]
        fake.collections.setdefault(name, {})
        return {"name": name}

    @app.delete("/v1/collections/{name}", status_code=202)
    async def _drop(name: str) -> Any:
        count = len(fake.collections.pop(name))
        return {"job": fake.job("delete", name, {"documents": count, "deleted": count}, [])}

    @app.post("/v1/collections/{name}/documents", status_code=202)
    async def _upload(name: str, request: Request) -> Any:
        form = await request.form()
        files = [part for part in form.getlist("files") if not isinstance(part, str)]
        return {"job": await _ingest(fake, name, files, str(form.get("metadata", "{}")))}

    @app.get("/v1/collections/{name}/documents")
    async def _documents(name: str, prefix: str = "", after: str = "") -> Any:
        names = sorted(d for d in fake.collections[name] if d.startswith(prefix) and d > after)
        page = [{"id": d, "name": d, "bytes": len(fake.collections[name][d])} for d in names[:2]]
        return {"documents": page, "next": names[1] if len(names) > 2 else None}

    @app.delete("/v1/collections/{name}/documents", status_code=202)
    async def _delete(name: str, request: Request) -> Any:
        names = request.query_params.getlist("name")
        fake.deletions.append(names)
        deleted = sum(fake.collections[name].pop(document, None) is not None for document in names)
        return {"job": fake.job("delete", name, {"documents": len(names), "deleted": deleted}, [])}

    @app.get("/v1/jobs")
    async def _jobs(state: str = "") -> Any:
        return {"jobs": [job for job in fake.jobs.values() if not state or job["state"] == state]}

    @app.get("/v1/jobs/{job}")
    async def _job(job: str) -> Any:
        if job not in fake.jobs:
            return fake.problem(404, "not-found", f"there is no job {job}")
        return {**fake.jobs[job], "state": "running"}

    @app.get("/v1/jobs/{job}/events")
    async def _job_events(job: str) -> Response:
        async def stream() -> AsyncIterator[str]:
            running = {**fake.jobs[job], "state": "running", "progress": {"documents": 2, "indexed": 1}}
            yield _event("progress", running)
            await asyncio.sleep(0)
            if fake.dropped_watches:
                fake.dropped_watches -= 1
                raise ConnectionError("the gateway restarts")
            yield _event("end", fake.jobs[job])

        return StreamingResponse(stream(), media_type="text/event-stream")

    @app.get("/v1/status")
    async def _status() -> Any:
        return STATUS

    @app.get("/v1/pipelines")
    async def _pipelines() -> Any:
        return {"pipelines": [{"name": "default", "steps": ["embed"]}, {"name": "precise", "steps": []}]}

    @app.get("/v1/dead-letters")
    async def _dead_letters() -> Any:
        return {
            "dead_letters": [{"seq": 7, "subject": "query.embed", "reason": "it failed four times", "deliveries": 4}]
        }

    @app.post("/v1/dead-letters/{seq}/replay", status_code=202)
    async def _replay(seq: int) -> Any:
        return {"seq": seq} if seq == 7 else fake.problem(404, "not-found", f"there is no dead letter {seq}")

    @app.get("/v1/dead-letters/{seq}")
    async def _dead_letter(seq: int) -> Any:
        letter = {"seq": 7, "subject": "query.embed", "reason": "it failed four times", "deliveries": 4}
        return {**letter, "payload": "{}"} if seq == 7 else fake.problem(404, "not-found", "there is none")

    @app.delete("/v1/dead-letters/{seq}")
    async def _discard(seq: int) -> Any:
        return (
            Response(status_code=204) if seq == 7 else fake.problem(404, "not-found", f"there is no dead letter {seq}")
        )

    return app


async def _ingest(fake: FakeGateway, collection: str, files: list[UploadFile], metadata: str) -> dict[str, Any]:
    names = [str(file.filename) for file in files]
    fake.uploads.append(names)
    counts = {"documents": len(files), "indexed": 0, "skipped": 0, "failed": 0, "chunks": 0}
    errors = []
    for file, name in zip(files, names, strict=True):
        content = await file.read()
        if name in fake.broken_documents:
            counts["failed"] += 1
            errors.append({"document": name, "type": "x", "title": "Broken", "detail": fake.broken_documents[name]})
        elif fake.collections[collection].get(name) == content:
            counts["skipped"] += 1
        else:
            counts["indexed"] += 1
            counts["chunks"] += 3
            fake.collections[collection][name] = content
            fake.metadata[name] = json.loads(metadata)
    return fake.job("ingest", collection, counts, errors)


@contextmanager
def serve_fake_gateway(fake: FakeGateway) -> Iterator[FakeGateway]:
    """Serve on a free port, in a thread, until the context ends."""
    server = uvicorn.Server(uvicorn.Config(build(fake), port=0, log_level="critical", lifespan="off"))
    started = threading.Event()
    startup = server.startup

    async def told_startup(sockets: Any = None) -> None:
        await startup(sockets)
        started.set()

    server.startup = told_startup  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert started.wait(20)
        port = server.servers[0].sockets[0].getsockname()[1]
        fake.url = f"http://127.0.0.1:{port}"
        yield fake
    finally:
        server.should_exit = True
        thread.join()
