"""Collections and documents over HTTP: uploads become stored objects and jobs, or nothing at all."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import nats
import pytest
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from shared.contracts.documents import Document, document_id
from shared.contracts.jobs import DeleteSpec, DropSpec, IngestSpec, JobState, decode_spec
from shared.nats.settings import QueueSettings
from shared.nats.subjects import JOB_EVENTS, JOB_SPECS, JOBS, UPLOADS, bucket_stream
from shared.nats.topology import Topology
from shared.stores.collections import Collections
from shared.stores.documents import Documents
from shared.stores.jobs.store import JobStore
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio

DOCUMENTS = "/v1/collections/default/documents"
MB = 2**20


@pytest.fixture(scope="module")
def gateway_settings() -> dict[str, object]:
    return {"max_texts_bytes": MB}


@pytest.fixture
async def http(gateway: ServiceProcess) -> AsyncIterator[httpx.AsyncClient]:
    """A client, and the collection `default` without documents or jobs."""
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60) as client:
        (await client.post("/v1/collections", json={"name": "default"})).raise_for_status()
        yield client


@pytest.fixture
async def js(broker: NatsServer, gateway: ServiceProcess) -> AsyncIterator[JetStreamContext]:
    connection = await nats.connect(broker.url)
    jetstream = connection.jetstream()
    for stream in (JOBS, f"OBJ_{UPLOADS}"):
        with suppress(NotFoundError):
            await jetstream.purge_stream(stream)
    yield jetstream
    await connection.close()


async def spec_of(js: JetStreamContext) -> Any:
    """What the job that was submitted last asks for."""
    info = await js.stream_info(JOBS)
    return decode_spec((await js.get_msg(JOBS, info.state.last_seq)).data or b"")


async def stored_messages(js: JetStreamContext) -> int:
    return (await js.stream_info(f"OBJ_{UPLOADS}")).state.messages


async def something_stored(js: JetStreamContext) -> bool:
    return await stored_messages(js) > 0


async def nothing_stored(js: JetStreamContext) -> bool:
    return await stored_messages(js) == 0


async def connected(gateway: ServiceProcess) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


def upload_head(size: int) -> bytes:
    head = f"POST {DOCUMENTS} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    return f"{head}Content-Length: {size}\r\n\r\n".encode()


def code(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    return str(response.json()["type"]).removeprefix("urn:sluice:problem:")


def files(**contents: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (name.replace("__", "."), content)) for name, content in contents.items()]


async def test_uploaded_files_are_stored_and_named_in_a_job(http: httpx.AsyncClient, js: JetStreamContext) -> None:
    big = bytes(range(256)) * 4096 + b"end"
    parts = [
        ("files", ("handbook/über uns.md", "# Grüße".encode(), "text/markdown")),
        ("files", ("big.bin", big, "application/octet-stream")),
        ("files", ("empty.txt", b"", "text/plain")),
    ]
    response = await http.post(DOCUMENTS, files=parts, data={"metadata": '{"lang": "de", "year": 2024}'})
    assert response.status_code == 202
    job = response.json()["job"]
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["kind"], job["state"], job["progress"]["documents"]) == ("ingest", "queued", 3)
    spec = await spec_of(js)
    assert isinstance(spec, IngestSpec)
    assert spec.collection == "default"
    assert [d.name for d in spec.documents] == ["handbook/über uns.md", "big.bin", "empty.txt"]
    assert [d.media_type for d in spec.documents] == ["text/markdown", None, "text/plain"]
    assert {str(d.metadata) for d in spec.documents} == {"{'lang': 'de', 'year': 2024}"}
    store = await js.object_store(UPLOADS)
    for document, content in zip(spec.documents, ("# Grüße".encode(), big, b""), strict=True):
        assert (await store.get(document.object)).data == content or content == b""
        assert (document.bytes, document.sha256) == (len(content), hashlib.sha256(content).hexdigest())


async def test_texts_are_documents_too(http: httpx.AsyncClient, js: JetStreamContext) -> None:
    texts = [{"name": "a.txt", "text": "Grüße", "metadata": {"n": 1}}, {"name": "b.txt", "text": ""}]
    response = await http.post(DOCUMENTS, json={"documents": texts})
    assert response.status_code == 202
    first, second = (await spec_of(js)).documents
    assert (first.name, first.media_type, first.metadata, first.bytes) == ("a.txt", "text/plain", {"n": 1}, 7)
    assert (second.name, second.metadata) == ("b.txt", {})
    store = await js.object_store(UPLOADS)
    assert (await store.get(first.object)).data == "Grüße".encode()


async def test_a_thousand_files_are_one_upload_and_one_more_is_too_many(
    http: httpx.AsyncClient, js: JetStreamContext
) -> None:
    parts = [("files", (f"{n}.txt", b"text")) for n in range(1001)]
    assert (await http.post(DOCUMENTS, files=parts[:1000])).status_code == 202
    assert len((await spec_of(js)).documents) == 1000
    stored = await stored_messages(js)
    refused = await http.post(DOCUMENTS, files=parts)
    assert (refused.status_code, code(refused)) == (413, "too-large")
    assert await stored_messages(js) == stored


async def test_a_file_over_the_limit_is_named_and_nothing_of_the_upload_stays(
    http: httpx.AsyncClient, js: JetStreamContext
) -> None:
    response = await http.post(DOCUMENTS, files=files(small__txt=b"text", huge__bin=bytes(51 * MB), after__txt=b"x"))
    assert (response.status_code, code(response)) == (413, "too-large")
    assert response.json()["document"] == "huge.bin"
    assert await stored_messages(js) == 0
    assert (await js.stream_info(JOBS)).state.messages == 0


async def test_a_body_over_the_limit_is_refused_by_what_it_declares(
    gateway: ServiceProcess, http: httpx.AsyncClient
) -> None:
    reader, writer = await connected(gateway)
    writer.write(upload_head(257 * MB))
    assert b" 413 " in await reader.readline()
    writer.close()


async def test_texts_over_the_limit_are_refused_as_they_come(http: httpx.AsyncClient) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100_000

    response = await http.post(DOCUMENTS, headers={"content-type": "application/json"}, content=body())
    assert (response.status_code, code(response)) == (413, "too-large")


@pytest.mark.parametrize(
    "name", ["../etc/passwd", "/etc/passwd", "a/../../b", "a//b", "..\\..\\b", "a/./b", "a/", "tab\tname", "x" * 513]
)
async def test_a_name_that_is_no_document_name_is_refused(
    http: httpx.AsyncClient, js: JetStreamContext, name: str
) -> None:
    text = await http.post(DOCUMENTS, json={"documents": [{"name": "ok", "text": "x"}, {"name": name, "text": "x"}]})
    assert (text.status_code, code(text)) == (422, "invalid-name")
    if "\t" not in name:  # a client escapes it in a form
        file = await http.post(DOCUMENTS, files=[("files", ("ok", b"x")), ("files", (name, b"x"))])
        assert (file.status_code, code(file)) == (422, "invalid-name")
    assert await stored_messages(js) == 0


async def test_two_documents_of_one_name_are_refused(http: httpx.AsyncClient, js: JetStreamContext) -> None:
    response = await http.post(DOCUMENTS, files=[("files", ("a/b", b"1")), ("files", ("a\\b", b"2"))])
    assert (response.status_code, code(response)) == (422, "invalid-name")
    assert await stored_messages(js) == 0


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ("no json", "invalid-metadata"),
        ("[]", "invalid-metadata"),
        ('{"a": {"b": 1}}', "invalid-metadata"),
        ('{"document": "x"}', "invalid-metadata"),
        ("[" * 60_000, "invalid-metadata"),
        (json.dumps({"a": "x" * 70_000}), "too-large"),
    ],
)
async def test_metadata_that_cannot_be_used_is_refused(
    http: httpx.AsyncClient, js: JetStreamContext, metadata: str, problem: str
) -> None:
    response = await http.post(DOCUMENTS, files=files(a__txt=b"x"), data={"metadata": metadata})
    assert code(response) == problem
    assert await stored_messages(js) == 0


async def test_metadata_of_a_text_is_checked_too(http: httpx.AsyncClient) -> None:
    document = {"name": "a", "text": "x", "metadata": {"a": [1]}}
    assert code(await http.post(DOCUMENTS, json={"documents": [document]})) == "invalid-metadata"


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"--x\r\nnonsense", "multipart/form-data; boundary=x"),
        (b"text", "multipart/form-data"),
        (b"--x--\r\n", "multipart/form-data; boundary=x"),
        (
            b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\nx\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
        ),
        (b"{}", "application/json"),
        (b'{"documents": []}', "application/json"),
        (b'{"documents": [{"name": "a"}]}', "application/json"),
        (b"text", "text/plain"),
        (b"", ""),
    ],
)
async def test_a_body_that_is_no_upload_is_refused(
    http: httpx.AsyncClient, js: JetStreamContext, content: bytes, content_type: str
) -> None:
    response = await http.post(DOCUMENTS, content=content, headers={"content-type": content_type})
    assert (response.status_code, code(response)) == (422, "invalid-request")
    assert await stored_messages(js) == 0


async def test_an_upload_that_breaks_off_leaves_nothing_behind(
    gateway: ServiceProcess, http: httpx.AsyncClient, js: JetStreamContext
) -> None:
    _, writer = await connected(gateway)
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.bin"\r\n\r\n' + bytes(2 * MB)
    writer.write(upload_head(5 * MB) + part)
    await writer.drain()
    await until(lambda: something_stored(js))
    writer.close()
    await until(lambda: nothing_stored(js))
    assert (await js.stream_info(JOBS)).state.messages == 0


async def test_the_same_idempotency_key_makes_one_job(http: httpx.AsyncClient, js: JetStreamContext) -> None:
    key = {"Idempotency-Key": "upload-1"}
    first = await http.post(DOCUMENTS, files=files(a__txt=b"one"), headers=key)
    board = JobStore(js._nc, js)
    await board.update(
        "default", first.json()["job"]["id"], lambda job: job.model_copy(update={"state": JobState.RUNNING})
    )
    stored = await stored_messages(js)
    second = await http.post(DOCUMENTS, files=files(a__txt=b"one"), headers=key)
    other = await http.post(DOCUMENTS, files=files(a__txt=b"one"))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["job"]["id"] == second.json()["job"]["id"] != other.json()["job"]["id"]
    assert second.json()["job"]["state"] == "running"
    assert (await js.stream_info(JOBS)).state.messages == 2
    assert stored < await stored_messages(js) <= 2 * stored


@pytest.mark.parametrize("lost", [JOB_EVENTS, bucket_stream(JOB_SPECS)])
async def test_a_job_that_was_queued_finds_its_documents_though_its_client_was_told_of_a_failure(
    http: httpx.AsyncClient, js: JetStreamContext, lost: str
) -> None:
    key = {"Idempotency-Key": f"upload-{lost}"}
    await js.delete_stream(lost)  # the job is queued, and what is written next fails
    failed = await http.post(DOCUMENTS, files=files(a__txt=b"one"), headers=key)
    await Topology(js, QueueSettings()).ensure()
    again = await http.post(DOCUMENTS, files=files(a__txt=b"one"), headers=key)
    assert (failed.status_code, again.status_code) == (503, 202)
    assert (await js.stream_info(JOBS)).state.messages == 1
    for spec in (await spec_of(js), await JobStore(js._nc, js).specs.get("default", again.json()["job"]["id"])):
        assert isinstance(spec, IngestSpec)
        assert (await (await js.object_store(UPLOADS)).get(spec.documents[0].object)).data == b"one"


async def test_an_idempotency_key_stands_for_one_kind_of_job(http: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "upload-2"}
    assert (await http.post(DOCUMENTS, files=files(a__txt=b"one"), headers=key)).status_code == 202
    response = await http.delete(DOCUMENTS, params={"name": "a.txt"}, headers=key)
    assert (response.status_code, code(response)) == (409, "conflict")


async def test_an_idempotency_key_has_its_limits(http: httpx.AsyncClient) -> None:
    response = await http.post(DOCUMENTS, files=files(a__txt=b"x"), headers={"Idempotency-Key": "k" * 256})
    assert (response.status_code, code(response)) == (422, "invalid-request")


@pytest.mark.parametrize("collection", ["nope", "No%20Name", "%2e%2e"])
async def test_an_unknown_collection_is_404(http: httpx.AsyncClient, collection: str) -> None:
    path = f"/v1/collections/{collection}"
    for response in (
        await http.get(path),
        await http.delete(path),
        await http.post(f"{path}/documents", files=files(a__txt=b"x")),
        await http.get(f"{path}/documents"),
        await http.get(f"{path}/documents/{document_id('a')}"),
        await http.delete(f"{path}/documents", params={"name": "a"}),
    ):
        assert response.status_code == 404


async def test_a_collection_is_created_once_and_keeps_its_settings(http: httpx.AsyncClient) -> None:
    settings = {"name": "manuals", "description": "Handbücher", "pipeline": "default"}
    created = await http.post("/v1/collections", json=settings)
    again = await http.post("/v1/collections", json=settings)
    other = await http.post("/v1/collections", json=settings | {"description": "x"})
    assert (created.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert created.headers["location"] == "/v1/collections/manuals"
    assert created.json() == again.json() == (await http.get("/v1/collections/manuals")).json()
    assert created.json() | settings | {"documents": 0, "chunks": 0} == created.json()
    assert [c["name"] for c in (await http.get("/v1/collections")).json()["collections"]] == ["default", "manuals"]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"name": "Not A Name"}, "invalid-name"),
        ({"name": ""}, "invalid-name"),
        ({}, "invalid-request"),
        ({"name": "x", "pipeline": "nope"}, "pipeline-not-found"),
        ({"name": "x", "owner": "me"}, "invalid-request"),
    ],
)
async def test_a_collection_that_cannot_be_is_refused(
    http: httpx.AsyncClient, settings: dict[str, Any], problem: str
) -> None:
    assert code(await http.post("/v1/collections", json=settings)) == problem


async def test_a_deleted_collection_is_gone_and_its_table_is_left_to_a_job(
    http: httpx.AsyncClient, js: JetStreamContext
) -> None:
    (await http.post("/v1/collections", json={"name": "old"})).raise_for_status()
    table = (await Collections(js).get("default", "old")).table
    key = {"Idempotency-Key": "drop-old"}
    response = await http.delete("/v1/collections/old", headers=key)
    assert response.status_code == 202
    assert await spec_of(js) == DropSpec(collection="old", table=table, id=table)
    assert (await http.get("/v1/collections/old")).status_code == 404
    assert (await http.delete("/v1/collections/old")).status_code == 404
    again = await http.delete("/v1/collections/old", headers=key)
    assert (again.status_code, again.json()["job"]["id"]) == (202, response.json()["job"]["id"])
    (await http.post("/v1/collections", json={"name": "old"})).raise_for_status()
    assert (await http.delete("/v1/collections/old", headers=key)).status_code == 202
    assert (await http.get("/v1/collections/old")).status_code == 200


async def test_documents_are_listed_by_name_page_by_page(http: httpx.AsyncClient, js: JetStreamContext) -> None:
    await http.post("/v1/collections", json={"name": "paged"})
    paged = await Collections(js).get("default", "paged")
    for number, name in enumerate(("b/1", "a/2", "a/1", "a/3", "c")):
        await Documents(js).put(paged.table, record(name, chunks=number), owner=paged.owner)
    path = "/v1/collections/paged/documents"
    first = (await http.get(path, params={"limit": 2})).json()
    second = (await http.get(path, params={"limit": 2, "after": first["next"]})).json()
    last = (await http.get(path, params={"limit": 2, "after": second["next"]})).json()
    names = [[d["name"] for d in page["documents"]] for page in (first, second, last)]
    assert names == [["a/1", "a/2"], ["a/3", "b/1"], ["c"]]
    assert last["next"] is None
    prefixed = (await http.get(path, params={"prefix": "a/", "limit": 3})).json()
    assert ([d["name"] for d in prefixed["documents"]], prefixed["next"]) == (["a/1", "a/2", "a/3"], None)
    found = (await http.get(path, params={"text": "/2"})).json()
    assert ([d["name"] for d in found["documents"]], found["next"]) == (["a/2"], None)
    assert (await http.get(path, params={"warned": True})).json() == {"documents": [], "next": None}
    assert (await http.get("/v1/collections/paged")).json() | {"documents": 5, "chunks": 10} == (
        await http.get("/v1/collections/paged")
    ).json()
    one = (await http.get(f"{path}/{document_id('c')}")).json()
    assert one == last["documents"][0]
    about = {"id", "name", "sha256", "bytes", "chunks", "media_type", "metadata", "indexed_at"}
    assert set(one) == about | {"warnings", "allowed", "origin"}
    assert one["origin"] == ""


def record(name: str, chunks: int) -> Document:
    return Document(
        id=document_id(name), name=name, sha256="", bytes=1, chunks=chunks, indexed_at=time.time(), revision=1, job="j"
    )


@pytest.mark.parametrize("document", [document_id("nope"), "nope", "%2e%2e%2fx", "A" * 32])
async def test_a_document_that_is_not_there_is_404(http: httpx.AsyncClient, document: str) -> None:
    assert (await http.get(f"{DOCUMENTS}/{document}")).status_code == 404


async def test_documents_are_deleted_by_id_and_by_names(http: httpx.AsyncClient, js: JetStreamContext) -> None:
    response = await http.delete(f"{DOCUMENTS}/{document_id('a')}")
    assert (response.status_code, response.json()["job"]["kind"]) == (202, "delete")
    assert await spec_of(js) == DeleteSpec(collection="default", documents=(document_id("a"),))
    await http.delete(DOCUMENTS, params={"name": ["a", "b/c", "b\\c"]})
    assert await spec_of(js) == DeleteSpec(collection="default", documents=(document_id("a"), document_id("b/c")))
    assert (await http.delete(DOCUMENTS)).status_code == 422
