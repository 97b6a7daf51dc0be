"""`sluice up` on a disk that is small, and that becomes full while it runs."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sluice.local.storage import LEAST_FREE
from tests.harness.platform import Platform, eventually
from tests.harness.small_disk import SmallDisk, small_disk

pytestmark = pytest.mark.timeout(600)

TYPE = "urn:sluice:problem:storage-full"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 600) as disk:
        yield disk


def upload(platform: Platform, name: str) -> httpx.Response:
    documents = {"documents": [{"name": name, "text": "The lighthouse keeper is called Ines. " * 50}]}
    return httpx.post(f"{platform.url}/v1/collections/docs/documents", json=documents, trust_env=False, timeout=60)


def done(platform: Platform, name: str) -> None:
    response = upload(platform, name)
    assert response.status_code == 202, response.text
    assert platform.client().wait(response.headers["location"].rpartition("/")[2]).state == "succeeded"


def refused(platform: Platform) -> bool:
    response = upload(platform, "refused.txt")
    return response.status_code == 507 and bool(response.json()["type"] == TYPE)


def ready(platform: Platform, service: str) -> httpx.Response:
    return httpx.get(f"{platform.state.services[service].url}/readyz", trust_env=False, timeout=10)


def query(platform: Platform) -> httpx.Response:
    body = {"question": "What is the lighthouse keeper called?", "collection": "docs"}
    return httpx.post(f"{platform.url}/v1/query", json=body, trust_env=False, timeout=60)


def test_a_full_disk_is_said_queries_go_on_and_room_is_enough_to_recover(disk: SmallDisk) -> None:
    with Platform(disk.folder) as platform:
        client = platform.client()
        client.create_collection("docs")
        done(platform, "first.txt")

        disk.fill()
        eventually(lambda: refused(platform), "an upload refused for want of room")
        eventually(lambda: ready(platform, "scheduler").status_code == 503, "the scheduler not ready")
        assert "cannot store anything" in ready(platform, "scheduler").json()["detail"]
        eventually(lambda: "storage" in ready(platform, "gateway").json(), "the gateway to name its storage")
        assert ready(platform, "gateway").status_code == 200
        assert "Ines" in query(platform).json()["answer"]

        disk.make_room()
        eventually(lambda: upload(platform, "again.txt").status_code == 202, "an upload taken again")
        eventually(lambda: ready(platform, "scheduler").status_code == 200, "the scheduler ready again")
        done(platform, "last.txt")
        assert {document.name for document in client.documents("docs")} >= {"first.txt", "again.txt", "last.txt"}
        eventually(lambda: "storage" not in ready(platform, "gateway").json(), "the gateway not to name its storage")


def test_little_room_is_enough_to_start_and_too_little_is_refused_with_what_to_do(disk: SmallDisk) -> None:
    disk.fill(leave=LEAST_FREE + 40 * 2**20)
    with Platform(disk.folder) as platform:
        platform.client().create_collection("docs")
    disk.make_room()
    disk.fill(leave=LEAST_FREE // 2)
    command = [sys.executable, "-m", "sluice", "up", "--port", "0", "--data", str(disk.folder / "data")]
    started = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert started.returncode != 0
    assert "free some room" in started.stderr + started.stdout
    assert "Traceback" not in started.stderr + started.stdout
