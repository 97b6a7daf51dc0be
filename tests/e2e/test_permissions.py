"""Every door through which text of documents leaves, tried by readers whom the documents' lists shut out.

The restricted documents hold a word that is nowhere else, so what a reader gets can be searched for it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from sluice import Client, SluiceError
from tests.harness.platform import Platform, eventually

ADMIN = "admin-key-of-the-tests-0123456789abcdef"
SECRET = "identity-secret-of-the-tests-0123456789"
MARK = "Quaddlebury"
QUESTION = "What is the annual salary of the director?"
HIDDEN = f"The annual salary of the director is 90,000 crowns. It was agreed on in {MARK}."
OPEN = "The annual report is printed in green. The director signs it in May."

CACHED = """
pipelines:
  cached: [{cache: [embed, retrieve], seconds: 3600, key: tenant}, generate]
  joined:
    - ensemble:
        - {name: kept, then: [{cache: [embed, retrieve], seconds: 3600, key: tenant}]}
        - {name: own, then: [embed]}
    - generate
"""
"""Pipelines whose caches take all questions of a tenant for the same one."""

JUDGED = {"question": QUESTION, "sources": ["salaries.txt"], "answer": f"90,000 crowns, agreed on in {MARK}"}


class KeyedPlatform(Platform):
    """One that asks for keys."""

    def reader(self, key: str = ADMIN, *, identity: dict[str, Any] | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"}
        if identity is not None:
            headers["X-Sluice-Identity"] = jwt.encode({"exp": time.time() + 600, **identity}, SECRET, "HS256")
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=60)

    def key(self, *actions: str, **more: Any) -> str:
        with self.reader() as admin:
            made = admin.post("/v1/keys", json={"name": "a reader", "actions": actions, **more})
            assert made.status_code == 201, made.text
            secret: str = made.json()["secret"]
        with self.reader(secret) as reader:
            eventually(lambda: reader.get("/v1/pipelines").status_code != 401, "the key is known")
        return secret


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyedPlatform]:
    folder = tmp_path_factory.mktemp("permissions")
    (folder / "sources").mkdir()
    settings = {"admin_key": ADMIN, "identity_secret": SECRET, "source_roots": folder / "sources"}
    (folder / "pipelines.yaml").write_text(CACHED)
    with KeyedPlatform(folder, pipelines=folder / "pipelines.yaml", **settings) as running:
        yield running


@pytest.fixture(scope="module")
def admin(platform: KeyedPlatform) -> Iterator[httpx.Client]:
    with platform.reader() as client:
        yield client


def done(client: httpx.Client, response: httpx.Response) -> dict[str, Any]:
    """The job that a request made, once it has ended well."""
    assert response.status_code == 202, response.text
    job: dict[str, Any] = response.json()["job"]

    def ended() -> bool:
        nonlocal job
        job = client.get(f"/v1/jobs/{job['id']}").json()
        return job["state"] in ("succeeded", "failed", "cancelled")

    eventually(ended, "the job has ended")
    assert job["state"] == "succeeded", job
    return job


@pytest.fixture(scope="module")
def collection(admin: httpx.Client) -> str:
    assert admin.post("/v1/collections", json={"name": "house"}).status_code == 201
    texts = [
        {"name": "salaries.txt", "text": HIDDEN, "allowed": ["group:hr"]},
        {"name": "report.txt", "text": OPEN},
    ]
    done(admin, admin.post("/v1/collections/house/documents", json={"documents": texts}))
    return "house"


def names(client: httpx.Client, collection: str) -> list[str]:
    listed = client.get(f"/v1/collections/{collection}/documents").json()["documents"]
    return [document["name"] for document in listed]


def asked(client: httpx.Client, collection: str, **more: Any) -> str:
    body = {"question": QUESTION, "collection": collection, "retrieval": {"context": 2}, **more}
    answer = client.post("/v1/query", json=body)
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.fixture(scope="module")
def outsiders(platform: KeyedPlatform) -> list[httpx.Client]:
    """Readers whom no list names: by their keys, and by what applications say of who asks."""
    plain = platform.key("query", "read", "jobs")
    other = platform.key("query", "read", "jobs", principals=["group:it"])
    writer = platform.key("query", "read", "jobs", "write", principals=["group:it"])
    served = platform.key("query", "read", "jobs", "write")
    return [
        platform.reader(plain),
        platform.reader(other),
        platform.reader(writer),
        platform.reader(served, identity={"sub": "mallory", "groups": ["it"]}),
        platform.reader(ADMIN, identity={"sub": "mallory"}),
        platform.reader(other, identity={"sub": "anna", "groups": ["hr"]}),
    ]


@pytest.fixture(scope="module")
def insiders(platform: KeyedPlatform) -> list[httpx.Client]:
    plain = platform.key("query", "read", "jobs")
    return [
        platform.reader(platform.key("query", "read", "jobs", principals=["group:hr"])),
        platform.reader(platform.key("query", "read", "jobs", principals=["*"])),
        platform.reader(platform.key("query", "read", "write", "jobs")),
        platform.reader(plain, identity={"sub": "anna", "groups": ["hr", "it"]}),
        platform.reader(),
    ]


def test_those_whom_a_list_names_find_the_document_and_others_do_not(
    collection: str, outsiders: list[httpx.Client], insiders: list[httpx.Client]
) -> None:
    for reader in insiders:
        assert MARK in asked(reader, collection)
        assert names(reader, collection) == ["report.txt", "salaries.txt"]
    for reader in outsiders:
        assert MARK not in asked(reader, collection)
        assert names(reader, collection) == ["report.txt"]
        assert reader.get(f"/v1/collections/{collection}").json()["documents"] == 1


def test_no_way_of_asking_finds_it(collection: str, outsiders: list[httpx.Client]) -> None:
    for reader in outsiders:
        for more in (
            {"stream": True},
            {"retrieval": {"mode": "vector"}},
            {"retrieval": {"mode": "text"}},
            {"retrieval": {"fusion": "rrf", "diversity": 0.5}},
            {"filter": {"document": "salaries.txt"}},
            {"filter": {"document": {"$ne": "report.txt"}}, "top_k": 100},
            {"version": "v1"},
            {
                "messages": [
                    {"role": "user", "content": "Who is it?"},
                    {"role": "assistant", "content": "The director."},
                ]
            },
        ):
            body = {"question": QUESTION, "collection": collection, **more}
            answer = reader.post("/v1/query", json=body)
            assert answer.status_code == 200, answer.text
            assert MARK not in answer.text
            assert "salaries" not in answer.text
        chat = {"model": f"rag/{collection}", "messages": [{"role": "user", "content": QUESTION}]}
        for stream in (False, True):
            answer = reader.post("/v1/chat/completions", json={**chat, "stream": stream})
            assert answer.status_code == 200, answer.text
            assert MARK not in answer.text
            assert "salaries" not in answer.text


@pytest.mark.parametrize("pipeline", ["cached", "joined"])
def test_what_a_cache_has_for_some_readers_it_does_not_give_to_others(
    pipeline: str, platform: KeyedPlatform, collection: str, outsiders: list[httpx.Client], insiders: list[httpx.Client]
) -> None:
    for _ in range(2):
        for reader in insiders:
            assert MARK in asked(reader, collection, pipeline=pipeline)
        for reader in outsiders:
            assert MARK not in asked(reader, collection, pipeline=pipeline)
    eventually(lambda: '"cache"' in asked(insiders[0], collection, pipeline=pipeline), "the cache is used")
    stranger = platform.reader(platform.key("query", "read", "write", tenant="other"))
    stranger.post("/v1/collections", json={"name": collection})  # the other pipeline's test may have made it
    body = {"question": QUESTION, "collection": collection, "pipeline": pipeline}
    answer = stranger.post("/v1/query", json=body)
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:sluice:problem:collection-empty")


def test_the_document_is_not_there_for_others(
    admin: httpx.Client, collection: str, outsiders: list[httpx.Client]
) -> None:
    listed = admin.get(f"/v1/collections/{collection}/documents").json()["documents"]
    document = next(one["id"] for one in listed if one["name"] == "salaries.txt")
    path = f"/v1/collections/{collection}/documents/{document}"
    assert admin.get(path).json()["allowed"] == ["group:hr"]
    for reader in outsiders:
        assert reader.get(path).status_code == 404
        changed = reader.put(f"{path}/permissions", json={"allowed": ["public"]})
        assert changed.status_code in (403, 404)
        for spec in (
            {"kind": "permit", "collection": collection, "documents": [document], "allowed": ["public"]},
            {"kind": "delete", "collection": collection, "documents": [document]},
        ):
            assert reader.post("/v1/jobs", json={"spec": spec}).status_code == 403
        removed = reader.delete(path)
        if removed.status_code == 202:
            done(admin, removed)
    assert admin.get(path).status_code == 200


def test_jobs_look_at_documents_as_those_who_submit_them(
    platform: KeyedPlatform, admin: httpx.Client, collection: str, outsiders: list[httpx.Client]
) -> None:
    for number, reader in enumerate((*outsiders[:2], outsiders[3])):
        folder = f"asked-{number}"
        assert reader.put(f"/v1/artifacts/{folder}/q.jsonl", content=json.dumps(JUDGED)).status_code == 201
        for answers in (False, True):
            spec = {"kind": "evaluate", "collection": collection, "input": f"{folder}/q.jsonl", "answers": answers}
            job = done(reader, reader.post("/v1/jobs", json={"spec": spec}))
            report = reader.get(f"/v1/jobs/{job['id']}/artifacts/report.json").json()
            assert job["outputs"]["recall_at_10"] == 0
            found = report["questions"][0]
            assert MARK not in (found.get("answer") or "")


def ended_batch(client: httpx.Client, batch: dict[str, Any]) -> dict[str, Any]:
    def ended() -> bool:
        nonlocal batch
        batch = client.get(f"/v1/batches/{batch['id']}").json()
        return batch["status"] in ("completed", "failed", "expired")

    eventually(ended, "the batch has ended")
    return batch


def test_a_batch_is_answered_for_who_submits_it(
    admin: httpx.Client, collection: str, outsiders: list[httpx.Client], insiders: list[httpx.Client]
) -> None:
    for reader, sees in ((outsiders[0], False), (outsiders[3], False), (insiders[0], True)):
        line = {
            "custom_id": "1",
            "method": "POST",
            "url": "/v1/query",
            "body": {"question": QUESTION, "collection": collection},
        }
        form = {"file": ("in.jsonl", json.dumps(line).encode())}
        file = reader.post("/v1/files", files=form, data={"purpose": "batch"}).json()["id"]
        asked = {"input_file_id": file, "endpoint": "/v1/query", "completion_window": "1h"}
        batch = ended_batch(reader, reader.post("/v1/batches", json=asked).json())
        output = reader.get(f"/v1/files/{batch['output_file_id']}/content")
        assert output.status_code == 200
        assert (MARK in output.text) is sees
        if sees:
            for outsider in outsiders:
                assert outsider.get(f"/v1/batches/{batch['id']}").status_code == 404
                assert outsider.get(f"/v1/files/{batch['output_file_id']}/content").status_code == 404
                assert batch["output_file_id"] not in outsider.get("/v1/files").text
                assert batch["id"] not in outsider.get("/v1/batches").text


def test_what_jobs_of_others_have_found_is_hidden(
    admin: httpx.Client, collection: str, outsiders: list[httpx.Client], insiders: list[httpx.Client]
) -> None:
    assert admin.put("/v1/artifacts/judged/q.jsonl", content=json.dumps(JUDGED)).status_code == 201
    spec = {"kind": "evaluate", "collection": collection, "input": "judged/q.jsonl", "answers": True}
    job = done(admin, admin.post("/v1/jobs", json={"spec": spec}))["id"]
    assert MARK in admin.get(f"/v1/jobs/{job}/artifacts/report.json").text
    for reader in outsiders:
        for path in ("", "/spec", "/audit", "/artifacts", "/events", "/steps", "/artifacts/report.json"):
            assert reader.get(f"/v1/jobs/{job}{path}").status_code == 404, path
        assert reader.get(f"/v1/artifacts/{job}/report.json").status_code == 404
        assert job not in reader.get("/v1/jobs?limit=1000").text
        compared = {**spec, "baseline": f"{job}/report.json"}
        assert reader.post("/v1/jobs", json={"spec": compared}).status_code == 404
        assert reader.post(f"/v1/jobs/{job}/retry").status_code in (403, 404)


def test_traces_and_logs_hold_no_text(
    platform: KeyedPlatform, admin: httpx.Client, collection: str, outsiders: list[httpx.Client]
) -> None:
    answer = admin.post("/v1/query", json={"question": QUESTION, "collection": collection})
    assert MARK in answer.text
    trace = answer.headers.get("x-trace-id") or answer.headers["x-request-id"]
    for reader in (admin, *outsiders):
        assert MARK not in reader.get(f"/v1/traces/{trace}").text
    for log in platform.data.rglob("*.log"):
        assert MARK not in log.read_text(errors="replace")


def test_a_change_is_in_force_a_second_after_its_job_and_changes_nothing_else(
    admin: httpx.Client, outsiders: list[httpx.Client], insiders: list[httpx.Client]
) -> None:
    admin.post("/v1/collections", json={"name": "moving"})
    texts = {"documents": [{"name": "salaries.txt", "text": HIDDEN}, {"name": "report.txt", "text": OPEN}]}
    done(admin, admin.post("/v1/collections/moving/documents", json=texts))
    listed = admin.get("/v1/collections/moving/documents").json()["documents"]
    before = next(one for one in listed if one["name"] == "salaries.txt")
    path = f"/v1/collections/moving/documents/{before['id']}"
    for allowed, seen in ((["group:hr"], False), (["group:it"], None), ([], False), (["public"], True)):
        done(admin, admin.put(f"{path}/permissions", json={"allowed": allowed}))
        deadline = time.monotonic() + 1.0
        wanted = seen if seen is not None else True
        while (MARK in asked(outsiders[1], "moving")) is not wanted:
            assert time.monotonic() < deadline + 4.0, allowed
        assert (MARK in asked(outsiders[0], "moving")) is bool(seen)
        assert MARK in asked(admin, "moving")
    assert admin.get(path).json() == {**before, "allowed": None}
    bad = admin.put(f"{path}/permissions", json={"allowed": ["hr"]})
    assert bad.status_code == 422 or bad.status_code == 400


def test_a_document_keeps_its_list_when_it_is_replaced_reindexed_and_switched(
    admin: httpx.Client, outsiders: list[httpx.Client]
) -> None:
    admin.post("/v1/collections", json={"name": "kept"})
    form = {"files": ("salaries.txt", HIDDEN.encode(), "text/plain")}
    listed = {"allowed": json.dumps(["user:anna"])}
    done(admin, admin.post("/v1/collections/kept/documents", files=form, data=listed))
    new = {"files": ("salaries.txt", f"{HIDDEN} It grows.".encode(), "text/plain")}
    done(admin, admin.post("/v1/collections/kept/documents", files=new))
    for spec in (
        {"kind": "reindex", "collection": "kept", "chunk_tokens": 64, "version": "small", "switch": False},
        {"kind": "switch", "collection": "kept", "version": "small"},
    ):
        done(admin, admin.post("/v1/jobs", json={"spec": spec}))
        for reader in outsiders:
            assert names(reader, "kept") == []
            for version in ("v1", "small"):
                empty = reader.post("/v1/query", json={"question": QUESTION, "collection": "kept", "version": version})
                assert empty.json()["type"].endswith("collection-empty")
    assert "It grows" in asked(admin, "kept")
    document = admin.get("/v1/collections/kept/documents").json()["documents"][0]
    assert document["allowed"] == ["user:anna"]
    done(admin, admin.put(f"/v1/collections/kept/documents/{document['id']}/permissions", json={"allowed": ["public"]}))
    for version in ("v1", "small"):
        assert MARK in asked(outsiders[0], "kept", version=version)


def test_a_folder_says_who_may_see_its_files(
    platform: KeyedPlatform, admin: httpx.Client, outsiders: list[httpx.Client], insiders: list[httpx.Client]
) -> None:
    folder = platform.data.parent / "sources" / "files"
    (folder / "hr").mkdir(parents=True)
    (folder / "hr" / "salaries.txt").write_text(HIDDEN)
    (folder / "report.txt").write_text(OPEN)
    rules = folder / ".sluice-permissions.yaml"
    rules.write_text('- {files: "hr/**", allowed: [group:hr]}\n')
    admin.post("/v1/collections", json={"name": "shelf"})
    spec = {"kind": "ingest", "collection": "shelf", "source": {"type": "folder", "path": str(folder)}}
    done(admin, admin.post("/v1/jobs", json={"spec": spec}))
    assert names(outsiders[0], "shelf") == ["files/report.txt"]
    assert MARK not in asked(outsiders[0], "shelf")
    assert MARK in asked(insiders[0], "shelf")
    rules.write_text('- {files: "hr/**", allowed: [group:it]}\n')
    done(admin, admin.post("/v1/jobs", json={"spec": spec}))
    assert names(outsiders[0], "shelf") == ["files/report.txt"]
    assert names(outsiders[1], "shelf") == ["files/hr/salaries.txt", "files/report.txt"]
    assert MARK in asked(outsiders[1], "shelf")
    assert MARK not in asked(insiders[0], "shelf")
    rules.write_text("- hr: yes\n")
    refused = admin.post("/v1/jobs", json={"spec": spec}).json()["job"]["id"]
    eventually(lambda: admin.get(f"/v1/jobs/{refused}").json()["state"] == "failed", "the job is refused")


def test_an_identity_that_cannot_be_verified_is_refused(platform: KeyedPlatform, collection: str) -> None:
    now = time.time()
    for token in (
        jwt.encode(
            {"sub": "anna", "groups": ["hr"], "exp": now + 600}, "another-secret-of-32-characters-long", "HS256"
        ),
        jwt.encode({"sub": "anna", "groups": ["hr"], "exp": now - 600}, SECRET, "HS256"),
        jwt.encode({"sub": "anna", "groups": ["hr"]}, SECRET, "HS256"),
        jwt.encode({"sub": "anna", "groups": ["hr"], "exp": now + 600, "tenant": "other"}, SECRET, "HS256"),
        jwt.encode({"sub": "anna", "groups": ["hr"], "exp": now + 600}, None, "none"),  # type: ignore[arg-type]
        "anna",
        "",
    ):
        with platform.reader() as reader:
            reader.headers["X-Sluice-Identity"] = token
            assert reader.post("/v1/query", json={"question": "?", "collection": collection}).status_code == 401
            assert reader.get(f"/v1/collections/{collection}/documents").status_code == 401


def test_the_command_line_says_who_may_see_documents(
    platform: KeyedPlatform, outsiders: list[httpx.Client], insiders: list[httpx.Client], tmp_path: Path
) -> None:
    def sluice(*arguments: str) -> str:
        command = [sys.executable, "-m", "sluice", *arguments, "--url", platform.url]
        environment = {**os.environ, "SLUICE_API_KEY": ADMIN}
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    folder = tmp_path / "desk"
    folder.mkdir()
    (folder / "salaries.txt").write_text(HIDDEN)
    (folder / "report.txt").write_text(OPEN)
    (folder / ".sluice-permissions.yaml").write_text("- {files: report.txt, allowed: [public]}")
    sluice("ingest", str(folder), "--collection", "desk", "--allow", "group:hr", "--json")
    assert names(outsiders[0], "desk") == ["desk/report.txt"]
    assert names(insiders[0], "desk") == ["desk/report.txt", "desk/salaries.txt"]
    assert "group:hr" in sluice("documents", "list", "--collection", "desk")
    sluice("documents", "permit", "desk/salaries.txt", "--collection", "desk", "--allow", "group:it")
    assert names(outsiders[1], "desk") == ["desk/report.txt", "desk/salaries.txt"]
    assert names(insiders[0], "desk") == ["desk/report.txt"]
    issued = json.loads(sluice("keys", "create", "hr-bot", "-a", "query", "--principal", "group:it", "--json"))
    assert issued["key"]["principals"] == ["group:it"]
    with Client(platform.url, api_key=issued["secret"], timeout=60) as client:
        eventually(lambda: _answers(client), "the key is known")
        assert MARK in client.query(QUESTION, collection="desk").sources[0].text
    sluice("documents", "permit", "desk/salaries.txt", "--collection", "desk", "--nobody")
    assert names(outsiders[1], "desk") == ["desk/report.txt"]


def _answers(client: Client) -> bool:
    try:
        client.pipelines()
    except SluiceError:
        return False
    return True
