"""A platform is backed up while it runs, and restored into an empty one that answers the same."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sluice import Client
from tests.harness.backup import ADMIN, backup, contents, fill, restore, sluice, tenant_client
from tests.harness.platform import Platform, eventually

pytestmark = pytest.mark.timeout(600)

BUSY = 1000
"""Documents of a job that lasts longer than a backup."""


@dataclass(frozen=True)
class Filled:
    platform: Platform
    secrets: dict[str, str]
    contents: dict[str, Any]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    with Platform(tmp_path_factory.mktemp("filled"), admin_key=ADMIN) as platform:
        secrets = fill(platform)
        yield Filled(platform, secrets, contents(platform, secrets))


@pytest.fixture(scope="module")
def place(filled: Filled, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where one backup of it is."""
    place = tmp_path_factory.mktemp("backups")
    made = backup(filled.platform, place)
    assert made["paused_seconds"] < 30
    return place


def test_an_empty_platform_is_after_a_restore_what_the_first_one_was(
    filled: Filled, place: Path, tmp_path: Path
) -> None:
    restored = restore(tmp_path / "data", place)
    assert restored["damaged"] == []
    assert (restored["collections"], restored["documents"], restored["jobs"]) == (4, 46, 0)
    with Platform(tmp_path, admin_key=ADMIN) as platform:
        assert contents(platform, filled.secrets) == filled.contents
        # And it goes on: a change is later than all that was there before.
        with tenant_client(platform, filled.secrets["acme"]) as client:
            job = client.wait(client.add_texts("lamps", {"1.txt": "The lamp number 1 is kept by Mirela Osk."}).id)
            assert (job.progress.indexed, job.progress.failed) == (1, 0)
            assert "Mirela Osk" in client.query("Who keeps the lamp number 1?", collection="lamps").answer
            reindexed = client.wait(client.submit_job({"kind": "reindex", "collection": "ferries"}).id)
            assert reindexed.state == "succeeded", reindexed.error


def test_the_first_one_goes_on_and_is_found_as_it_was(filled: Filled, place: Path) -> None:
    assert contents(filled.platform, filled.secrets) == filled.contents


def test_a_restore_refuses_a_platform_that_is_not_empty_and_changes_nothing(
    filled: Filled, place: Path, tmp_path: Path
) -> None:
    running = sluice("restore", str(place), "--data", str(filled.platform.data))
    assert running.returncode == 1
    assert "stop it first" in running.stderr
    with Platform(tmp_path) as other, other.client() as client:
        client.create_collection("mine")
    refused = sluice("restore", str(place), "--data", str(other.data))
    assert refused.returncode == 1
    assert "is not empty" in refused.stderr
    assert "--replace" in refused.stderr
    with Platform(tmp_path) as other, other.client() as client:
        assert [collection.name for collection in client.collections()] == ["mine"]
    assert restore(other.data, place, "--replace")["collections"] == 4
    with Platform(tmp_path, admin_key=ADMIN) as other:
        assert contents(other, filled.secrets) == filled.contents


def test_a_backup_under_writes_has_each_document_whole_or_not_at_all(filled: Filled, tmp_path: Path) -> None:
    secret = filled.secrets["globex"]
    place = tmp_path / "backups"
    with tenant_client(filled.platform, secret) as client:
        client.create_collection("busy")
        texts = {f"{n}.txt": f"The busy number {n} is kept by Keeper{n}. " * 6 for n in range(BUSY)}
        job = client.add_texts("busy", texts)
        eventually(lambda: client.job(job.id).progress.indexed > 0, "some documents indexed")
        backup(filled.platform, place)
        assert client.job(job.id).state == "running", "the backup came too late to meet a job at work"
        assert client.wait(job.id).progress.indexed == BUSY
        client.delete_collection("busy")
    restored = restore(tmp_path / "data", place)
    assert restored["damaged"] == []
    with Platform(tmp_path, admin_key=ADMIN) as platform, tenant_client(platform, secret) as client:
        # The job had not ended. It runs again, and does what is missing.
        again = client.wait(job.id)
        assert again.state == "succeeded"
        assert again.progress.indexed + again.progress.skipped == BUSY
        assert len(list(client.documents("busy"))) == BUSY
        assert "Keeper123" in client.query("Who keeps the busy number 123?", collection="busy").answer
        checked = sluice("doctor", "--data", str(platform.data), "--json", SLUICE_URL=platform.url)
        assert "damaged" not in checked.stdout, checked.stdout


def test_a_backup_that_is_killed_is_never_taken_for_whole_and_holds_nobody_up(
    filled: Filled, place: Path, tmp_path: Path
) -> None:
    spoilt = tmp_path / "backups"
    process = started("backup", str(spoilt), "--data", str(filled.platform.data))
    eventually(lambda: any(spoilt.rglob("streams/*")), "a part of a backup")
    kill(process)
    assert json.loads(sluice("backup", str(spoilt), "--list", "--json").stdout)["backups"] == []
    refused = sluice("restore", str(spoilt), "--data", str(tmp_path / "data"))
    assert refused.returncode == 1
    assert "no whole backup" in refused.stderr
    again = backup(filled.platform, spoilt)
    assert json.loads(sluice("backup", str(spoilt), "--list", "--json").stdout)["backups"] == [again["name"]]
    with tenant_client(filled.platform, filled.secrets["acme"]) as client:
        job = client.wait(client.add_texts("lamps", {"1.txt": "The lamp number 1 of acme is kept by Keeper1."}).id)
        assert job.state == "succeeded"


def test_a_restore_that_is_killed_is_done_again_with_the_same_command(
    filled: Filled, place: Path, tmp_path: Path
) -> None:
    process = started("restore", str(place), "--data", str(tmp_path / "data"), stderr=subprocess.PIPE)
    assert process.stderr is not None
    for line in process.stderr:
        if b"stream 9 of" in line:
            break
    kill(process)
    log = tmp_path / "up.log"
    restored = restore(tmp_path / "data", place)
    assert restored["damaged"] == []
    with Platform(tmp_path, admin_key=ADMIN) as platform:
        assert contents(platform, filled.secrets)["globex"]["answers"] == filled.contents["globex"]["answers"]
    assert "is being restored" not in log.read_text()


def test_a_damaged_backup_is_refused_before_anything_changes(place: Path, tmp_path: Path) -> None:
    for damage in ("truncated", "flipped", "missing", "manifest"):
        spoilt = copied(place, tmp_path / damage)
        spoil(spoilt, damage)
        refused = sluice("restore", str(spoilt), "--data", str(tmp_path / "data"))
        assert refused.returncode == 1, damage
        assert "damaged" in refused.stderr, damage
        assert not any((tmp_path / "data" / "index").rglob("*.lance")), damage
        assert sluice("backup", str(spoilt), "--check").returncode == 1, damage
    assert sluice("backup", str(place), "--check").returncode == 0
    with Platform(tmp_path) as platform, platform.client() as client:
        assert client.collections() == []


def spoil(backups: Path, damage: str) -> None:
    file = max((path for path in backups.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    if damage == "manifest":
        file = next(backups.rglob("manifest.json"))
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(data[: len(data) // 2])
    else:
        middle = data.index(b'"messages"') + 14 if damage == "manifest" else len(data) // 2
        file.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])


def copied(source: Path, target: Path) -> Path:
    subprocess.run(["cp", "-r", source, target], check=True)
    return target


def started(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sluice", *arguments]
    return subprocess.Popen(command, env=dict(os.environ), start_new_session=True, **options)


def kill(process: subprocess.Popen[bytes]) -> None:
    """As a power cut does: the command and all that it has started in its session."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(20)


def test_without_its_index_a_backup_is_smaller_and_the_index_is_made_anew(filled: Filled, tmp_path: Path) -> None:
    backup(filled.platform, tmp_path / "backups", "--no-index")
    restore(tmp_path / "data", tmp_path / "backups")
    with (
        Platform(tmp_path, admin_key=ADMIN) as platform,
        Client(platform.url, api_key=filled.secrets["acme"]) as client,
    ):
        job = client.wait(client.submit_job({"kind": "reindex", "collection": "ferries", "force": True}).id)
        assert job.state == "succeeded", job.error
        assert "Keeper7" in client.query("Who keeps the ferry number 7?", collection="ferries").answer
