"""What a platform holds as its clients see it, and the commands that back it up and restore it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import httpx

from sluice import Client
from tests.harness.platform import Platform, eventually

__all__ = ["ADMIN", "TENANTS", "backup", "contents", "fill", "restore", "sluice", "tenant_client"]

ADMIN: Final = "admin-key-of-the-tests-0123456789abcdef"
TENANTS: Final = ("acme", "globex")


def sluice(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line, run to its end."""
    command = [sys.executable, "-m", "sluice", *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=240, check=False
    )


def backup(platform: Platform, place: Path | str, *more: str, **environment: str) -> dict[str, Any]:
    done = sluice("backup", str(place), "--data", str(platform.data), "--json", *more, **environment)
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def restore(data: Path, place: Path | str, *more: str, **environment: str) -> dict[str, Any]:
    done = sluice("restore", str(place), "--data", str(data), "--json", *more, **environment)
    assert done.returncode == 0, done.stderr
    restored: dict[str, Any] = json.loads(done.stdout)
    return restored


def tenant_client(platform: Platform, secret: str) -> Client:
    """A client with a key, once the gateway knows it."""
    client = Client(platform.url, api_key=secret, timeout=60)

    def is_known() -> bool:
        headers = {"Authorization": f"Bearer {secret}"}
        return httpx.get(f"{platform.url}/v1/collections", headers=headers, trust_env=False).status_code == 200

    eventually(is_known, "the key known to the gateway")
    return client


def fill(platform: Platform) -> dict[str, str]:
    """Two tenants, each with a key, two collections, files, a batch and a schedule. Returns the keys' secrets."""
    secrets: dict[str, str] = {}
    with Client(platform.url, api_key=ADMIN) as admin:
        for tenant in TENANTS:
            actions = ("query", "read", "write", "jobs", "system")
            secrets[tenant] = admin.create_key(f"key of {tenant}", actions, tenant=tenant).secret
    for tenant, secret in secrets.items():
        with tenant_client(platform, secret) as client:
            for collection, topic in (("lamps", "lamp"), ("ferries", "ferry")):
                client.create_collection(collection, description=f"{topic}s of {tenant}")
                texts = {f"{n}.txt": f"The {topic} number {n} of {tenant} is kept by Keeper{n}." for n in range(12)}
                client.wait(client.add_texts(collection, texts, metadata={"topic": topic}).id)
            client.wait(client.delete_documents("lamps", ["11.txt"]).id)
            client.put_artifact("notes/plan.txt", f"the plan of {tenant}".encode() * 50_000)
            client.create_schedule("monthly", {"kind": "reindex", "collection": "lamps"}, cron="0 5 1 * *")
            _run_batch(platform, secret)
    return secrets


def _run_batch(platform: Platform, secret: str) -> None:
    line = {"custom_id": "1", "method": "POST", "url": "/v1/query", "body": {"question": "?", "collection": "lamps"}}
    headers = {"Authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=platform.url, headers=headers, trust_env=False, timeout=60) as http:
        form = {"files": {"file": ("lines.jsonl", json.dumps(line).encode())}, "data": {"purpose": "batch"}}
        file = http.post("/v1/files", **form).json()["id"]
        body = {"input_file_id": file, "endpoint": "/v1/query", "completion_window": "1h"}
        batch = http.post("/v1/batches", json=body).json()["id"]
        eventually(lambda: http.get(f"/v1/batches/{batch}").json()["status"] == "completed", "the batch completed")


def contents(platform: Platform, secrets: dict[str, str]) -> dict[str, Any]:
    """Everything that the tenants and the admin can see, answers among it, in a form to compare."""
    found: dict[str, Any] = {}
    with Client(platform.url, api_key=ADMIN) as admin:
        found["keys"] = sorted((key.id, key.name, key.tenant, key.state) for key in admin.keys())  # noqa: SIM118
    for tenant, secret in secrets.items():
        with tenant_client(platform, secret) as client:
            found[tenant] = _of_tenant(client, platform, secret)
    return found


def _of_tenant(client: Client, platform: Platform, secret: str) -> dict[str, Any]:
    collections = sorted(collection.name for collection in client.collections())
    headers = {"Authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=platform.url, headers=headers, trust_env=False, timeout=60) as http:
        files = http.get("/v1/files").json()["data"]
        bytes_of = {file["id"]: http.get(f"/v1/files/{file['id']}/content").text for file in files}
        batches = http.get("/v1/batches").json()["data"]
    return {
        "collections": [client.collection(name).model_dump() for name in collections],
        "documents": {name: [one.model_dump() for one in client.documents(name)] for name in collections},
        "answers": {name: _answers(client, name) for name in collections},
        "jobs": {job.id: (job.kind, job.state, job.finished_at) for job in client.jobs(limit=500)},
        "audit": {job.id: len(list(client.job_audit(job.id))) for job in client.jobs(limit=500)},
        "schedules": [(one.name, one.next_at) for one in client.schedules()],
        "artifact": client.artifact("notes/plan.txt"),
        "files": files,
        "file contents": bytes_of,
        "batches": batches,
    }


def _answers(client: Client, collection: str) -> list[Any]:
    topic = {"lamps": "lamp", "ferries": "ferry"}.get(collection, collection)
    answers = [client.query(f"Who keeps the {topic} number {n}?", collection=collection) for n in (1, 7)]
    return [(answer.answer, [(s.document, s.text, round(s.score, 3)) for s in answer.sources]) for answer in answers]
