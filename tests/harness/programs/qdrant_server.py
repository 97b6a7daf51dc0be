"""Qdrant's HTTP API, as far as the store uses it, over Qdrant's own engine.

There is no package of the server itself. `qdrant-edge-py` has its engine: segments, indices of payloads and of sparse
vectors, filters, queries and conditional updates are the server's own code. What is ours is between HTTP and that: one
shard a collection, one request at a time, no cluster.

`python -m tests.harness.programs.qdrant_server FD FOLDER [KEY]` serves on a listening socket.
"""

import asyncio
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import qdrant_edge as edge
import uvicorn
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

VERSION = "1.20.0"
UNUSED = {"-": edge.EdgeSparseVectorParams()}
"""The engine takes no shard without vectors."""

SCHEMAS: dict[str, Callable[..., Any]] = {
    "keyword": edge.KeywordIndexParams,
    "integer": edge.IntegerIndexParams,
    "float": edge.FloatIndexParams,
}
MODES = {
    None: edge.UpdateMode.Upsert,
    "upsert": edge.UpdateMode.Upsert,
    "insert_only": edge.UpdateMode.InsertOnly,
    "update_only": edge.UpdateMode.UpdateOnly,
}

Body = Mapping[str, Any]


class Engine:
    """The collections in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shards: dict[str, edge.EdgeShard] = {}
        self._made = 0

    def names(self, _: str, __: Body) -> object:
        return {"collections": [{"name": name} for name in self._shards]}

    def exists(self, name: str, _: Body) -> object:
        return {"exists": name in self._shards}

    def create(self, name: str, body: Body) -> object:
        if name in self._shards:
            raise ConflictError(f"Collection `{name}` already exists!")
        hnsw = body.get("hnsw_config") or {}
        vectors = {
            key: edge.EdgeVectorParams(size=one["size"], distance=edge.Distance.Cosine)
            for key, one in (body.get("vectors") or {}).items()
        }
        words = {
            key: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf) for key in body.get("sparse_vectors") or {}
        }
        config = edge.EdgeConfig(
            vectors=vectors or None,
            sparse_vectors=words or UNUSED,
            on_disk_payload=body.get("on_disk_payload"),
            hnsw_config=edge.HnswIndexConfig(
                m=hnsw["m"], ef_construct=100, full_scan_threshold=10_000, payload_m=hnsw["payload_m"]
            )
            if hnsw
            else None,
            max_search_threads=1,
        )
        self._made += 1
        self._shards[name] = edge.EdgeShard.create(str(self._folder / str(self._made)), config)
        return True

    def delete_collection(self, name: str, _: Body) -> object:
        shard = self._shards.pop(name, None)
        if shard is not None:
            shard.close()
        return shard is not None

    def index(self, name: str, body: Body) -> object:
        schema = dict(body["field_schema"])
        kind = SCHEMAS[schema.pop("type")](**schema)
        return self._update(name, edge.UpdateOperation.create_field_index(body["field_name"], kind))

    def upsert(self, name: str, body: Body) -> object:
        points = [edge.Point(one["id"], vectors_of(one["vector"]), one.get("payload")) for one in body["points"]]
        condition = filter_of(body.get("update_filter"))
        return self._update(name, edge.UpdateOperation.upsert_points(points, condition, MODES[body.get("update_mode")]))

    def set_payload(self, name: str, body: Body) -> object:
        return self._update(
            name, edge.UpdateOperation.set_payload_by_filter(filter_of(body["filter"]), body["payload"])
        )

    def delete(self, name: str, body: Body) -> object:
        return self._update(name, edge.UpdateOperation.delete_points_by_filter(filter_of(body["filter"])))

    def retrieve(self, name: str, body: Body) -> object:
        found = self._shard(name).retrieve(body["ids"], body.get("with_payload", True), body.get("with_vector", False))
        return [record_of(one) for one in found]

    def scroll(self, name: str, body: Body) -> object:
        request = edge.ScrollRequest(
            offset=body.get("offset"),
            limit=body["limit"],
            filter=filter_of(body.get("filter")),
            with_payload=body.get("with_payload", True),
            with_vector=body.get("with_vector", False),
        )
        records, following = self._shard(name).scroll(request)
        return {
            "points": [record_of(one) for one in records],
            "next_page_offset": None if following is None else str(following),
        }

    def count(self, name: str, body: Body) -> object:
        request = edge.CountRequest(exact=body.get("exact", True), filter=filter_of(body.get("filter")))
        return {"count": self._shard(name).count(request)}

    def facet(self, name: str, body: Body) -> object:
        request = edge.FacetRequest(
            key=body["key"],
            limit=body["limit"],
            exact=body.get("exact", False),
            filter=filter_of(body.get("filter")),
        )
        return {"hits": [{"value": hit.value, "count": hit.count} for hit in self._shard(name).facet(request).hits]}

    def query(self, name: str, body: Body) -> object:
        found = self._shard(name).query(query_of(body))
        return {"points": [{**record_of(one), "version": 0, "score": one.score} for one in found]}

    def query_batch(self, name: str, body: Body) -> object:
        return [self.query(name, one) for one in body["searches"]]

    def _update(self, name: str, operation: edge.UpdateOperation) -> object:
        self._shard(name).update(operation)
        return {"operation_id": 0, "status": "completed"}

    def _shard(self, name: str) -> edge.EdgeShard:
        try:
            return self._shards[name]
        except KeyError:
            raise AbsentError(f"Not found: Collection `{name}` doesn't exist!") from None


class AbsentError(Exception):
    """404."""


class ConflictError(Exception):
    """409."""


def query_of(body: Body) -> edge.QueryRequest:
    return edge.QueryRequest(
        limit=body["limit"],
        query=edge.Query.Nearest(vector_of(body["query"]), body["using"]),
        prefetches=[
            edge.Prefetch(
                limit=one["limit"],
                query=edge.Query.Nearest(vector_of(one["query"]), one["using"]),
                filter=filter_of(one.get("filter")),
                params=params_of(one.get("params")),
            )
            for one in body.get("prefetch") or ()
        ],
        filter=filter_of(body.get("filter")),
        params=params_of(body.get("params")),
        with_payload=body.get("with_payload", False),
        with_vector=body.get("with_vector", False),
    )


def params_of(body: Body | None) -> edge.SearchParams | None:
    corpus = ((body or {}).get("idf") or {}).get("corpus")
    return edge.SearchParams(idf=edge.IdfParams(corpus=filter_of(corpus))) if corpus else None


def vector_of(given: Any) -> Any:
    if isinstance(given, dict) and "nearest" in given:
        return vector_of(given["nearest"])
    return edge.SparseVector(given["indices"], given["values"]) if isinstance(given, dict) else given


def vectors_of(given: Mapping[str, Any]) -> Any:
    return {name: vector_of(one) for name, one in given.items()}


def filter_of(body: Body | None) -> Any:
    if body is None:
        return None
    parts = {name: listed(body.get(name)) for name in ("must", "should", "must_not")}
    return edge.Filter(
        **{name: [condition_of(one) for one in some] for name, some in parts.items() if some is not None}
    )


def listed(given: Any) -> list[Any] | None:
    return given if given is None or isinstance(given, list) else [given]


def condition_of(body: Body) -> Any:
    if "has_id" in body:
        return edge.HasIdCondition(set(body["has_id"]))
    if "is_empty" in body:
        return edge.IsEmptyCondition(body["is_empty"]["key"])
    if "key" not in body:
        return filter_of(body)
    match, bounds = body.get("match"), body.get("range")
    if bounds is not None:
        return edge.FieldCondition(body["key"], range=edge.RangeFloat(**bounds))
    if match is not None and "any" in match:
        return edge.FieldCondition(body["key"], match=edge.MatchAny(match["any"]))
    assert match is not None
    return edge.FieldCondition(body["key"], match=edge.MatchValue(match["value"]))


def record_of(record: Any) -> dict[str, Any]:
    vector = record.vector
    if isinstance(vector, dict):
        vector = {
            name: {"indices": list(one.indices), "values": list(one.values)} if hasattr(one, "indices") else list(one)
            for name, one in vector.items()
        }
    return {"id": str(record.id), "payload": record.payload, "vector": vector}


def make(folder: Path, key: str = "") -> Starlette:
    """The API. With a key, requests need it."""
    engine = Engine(folder)
    working = asyncio.Lock()

    def served(operation: Callable[[str, Body], object]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            body = await request.body()
            given = await request.json() if body else {}
            try:
                async with working:
                    result = await asyncio.to_thread(operation, request.path_params.get("name", ""), given)
            except AbsentError as error:
                return refusal(404, str(error))
            except ConflictError as error:
                return refusal(409, str(error))
            except (ValueError, KeyError, TypeError) as error:
                return refusal(400, f"Wrong input: {error}")
            return JSONResponse({"result": result, "status": "ok", "time": 0.0})

        return answer

    async def version(_: Request) -> Response:
        return JSONResponse({"title": "qdrant - vector search engine", "version": VERSION})

    async def authorize(request: Request, call_next: RequestResponseEndpoint) -> Response:
        if key and request.url.path != "/" and request.headers.get("api-key") != key:
            return Response("Must provide an API key or an Authorization bearer token", 401)
        return await call_next(request)

    collection = "/collections/{name}"
    app = Starlette(
        routes=[
            Route("/", version),
            Route("/collections", served(engine.names)),
            Route(f"{collection}/exists", served(engine.exists)),
            Route(collection, served(engine.create), methods=["PUT"]),
            Route(collection, served(engine.delete_collection), methods=["DELETE"]),
            Route(f"{collection}/index", served(engine.index), methods=["PUT"]),
            Route(f"{collection}/points", served(engine.upsert), methods=["PUT"]),
            Route(f"{collection}/points", served(engine.retrieve), methods=["POST"]),
            Route(f"{collection}/points/payload", served(engine.set_payload), methods=["POST"]),
            Route(f"{collection}/points/delete", served(engine.delete), methods=["POST"]),
            Route(f"{collection}/points/scroll", served(engine.scroll), methods=["POST"]),
            Route(f"{collection}/points/count", served(engine.count), methods=["POST"]),
            Route(f"{collection}/points/query", served(engine.query), methods=["POST"]),
            Route(f"{collection}/points/query/batch", served(engine.query_batch), methods=["POST"]),
            Route(f"{collection}/facet", served(engine.facet), methods=["POST"]),
        ]
    )
    app.add_middleware(BaseHTTPMiddleware, dispatch=authorize)
    return app


def refusal(status: int, error: str) -> Response:
    return JSONResponse({"status": {"error": error}, "time": 0.0}, status)


def main(descriptor: str, folder: str, key: str = "") -> None:
    app = make(Path(folder), key)
    config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.socket(fileno=int(descriptor)) as listener:
        server.run([listener])
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
