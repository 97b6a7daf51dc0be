"""After a power cut the index has every commit that was acknowledged, and of another one all or nothing."""

import asyncio
import os
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from services.retriever.ranking.ranker import RankOptions
from services.retriever.stores.base import Chunk, IndexedDocument
from services.retriever.stores.lance.durability import TableFiles, local_root
from services.retriever.stores.lance.store import LanceStore
from shared.contracts.retrieval import SearchMode
from tests.harness.power_cut import Disk, recorded
from tests.harness.stage_harness import until

pytestmark = pytest.mark.anyio

COMMITS = 14
CUTS = 40
DOCUMENTS = 5
RECORD = 1
"""What the number of the version takes."""

EVERYTHING = RankOptions(mode=SearchMode.VECTOR, fold_copies=False)
VECTOR = np.ones(8, dtype=np.float32)

State = dict[str, int]
"""The revision of each document that is there."""


@dataclass(frozen=True)
class Cut:
    folder: Path
    before: State
    after: State


def document(name: str, revision: int, *, gone: bool) -> IndexedDocument:
    text = f"The lamp {name} as of revision {revision}."
    chunks = [] if gone else [Chunk(position=n, text=text, vector=VECTOR) for n in range(1 + revision % 3)]
    return IndexedDocument(id=name, name=name, version="v", revision=revision, chunks=chunks)


async def found(folder: Path) -> State:
    """What is searchable; each document has all chunks of one revision."""
    store = await LanceStore.open(str(folder), boot="after")
    hits = await store.search("c", "", VECTOR, top_k=100, options=EVERYTHING)
    revisions: dict[str, list[int]] = {}
    for hit in hits:
        revisions.setdefault(hit.document_id, []).append(int(hit.text.rstrip(".").rpartition(" ")[2]))
    await store.replace("c", [document("new", 1, gone=False)])
    assert await store.count("c") == len(hits) + 2, "it can be written to"
    await store.close()
    for texts in revisions.values():
        assert texts == [texts[0]] * (1 + texts[0] % 3)
    return {name: texts[0] for name, texts in revisions.items()}


async def test_what_was_acknowledged_survives_and_nothing_is_there_in_part(tmp_path: Path) -> None:
    """Cuts in the middle of commits and of the upkeep, each with its own fate of what was not synced."""
    chance = random.Random(11)
    disk = Disk(tmp_path / "index")
    cuts: list[Cut] = []
    before: State = {}
    after: State = {}

    def cut() -> None:
        if len(cuts) < CUTS and chance.random() < 0.25:
            folder = tmp_path / f"cut{len(cuts)}"
            disk.cut(folder, chance)
            cuts.append(Cut(folder, dict(before), dict(after)))

    with recorded(disk, cut):
        store = await LanceStore.open(str(tmp_path / "index"), boot="before")
        for revision in range(1, COMMITS + 1):
            names = chance.sample("abcde", k=chance.randint(1, DOCUMENTS))
            gone = {name for name in names if name in before and chance.random() < 0.3}
            after = {**before, **dict.fromkeys(names, revision)}
            after = {name: number for name, number in after.items() if name not in gone}
            await store.replace("c", [document(name, revision, gone=name in gone) for name in names])
            before = after
            if revision % 5 == 0:
                await store.maintain("c")
        await store.close()
    last = tmp_path / "last"
    disk.cut(last, chance)
    cuts.append(Cut(last, before, before))

    assert len(cuts) > CUTS / 2
    assert any(one.before != one.after for one in cuts)
    for one in cuts:
        assert await found(one.folder) in (one.before, one.after), one.folder


async def test_of_a_first_commit_all_or_nothing_survives(tmp_path: Path) -> None:
    """Nothing of the table was acknowledged before."""
    chance = random.Random(12)
    disk = Disk(tmp_path / "index")
    cuts: list[Path] = []

    def cut() -> None:
        for _ in range(2):
            cuts.append(tmp_path / f"cut{len(cuts)}")
            disk.cut(cuts[-1], chance)

    with recorded(disk, cut):
        store = await LanceStore.open(str(tmp_path / "index"), boot="before")
        await store.replace("c", [document("a", 1, gone=False)])
        await store.close()
    assert len(cuts) > CUTS
    for folder in cuts:
        assert await found(folder) in ({}, {"a": 1}), folder


async def test_a_version_that_is_damaged_is_set_aside_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = await LanceStore.open(str(tmp_path), boot="")
    await store.replace("c", [document("a", 1, gone=False)])
    await store.replace("c", [document("a", 2, gone=False)])
    await store.close()
    manifests = tmp_path / "c.lance" / "_versions"
    min(manifests.glob("*.manifest")).write_bytes(b"")

    assert await found(tmp_path) == {"a": 1}
    assert "set aside" in caplog.text
    assert list(manifests.glob("*.damaged"))


async def test_a_process_that_is_killed_leaves_its_last_commit(tmp_path: Path) -> None:
    """The kernel has it, whoever was told of it."""
    store = await LanceStore.open(str(tmp_path), boot="same")
    await store.replace("c", [document("a", 1, gone=False)])
    told = (tmp_path / "c.acknowledged").read_bytes()
    await store.replace("c", [document("a", 2, gone=False)])
    await store.close()
    (tmp_path / "c.acknowledged").write_bytes(told)

    again = await LanceStore.open(str(tmp_path), boot="same")
    assert {hit.text for hit in await again.search("c", "", VECTOR, top_k=9, options=EVERYTHING)} == {
        "The lamp a as of revision 2."
    }
    await again.close()
    assert await found(tmp_path) == {"a": 1}, "after another start of the machine"


@pytest.mark.parametrize(
    ("uri", "root"),
    [("/data/index", "/data/index"), ("index", "index"), ("file:///data", "/data"), ("s3://bucket/index", None)],
)
def test_only_folders_are_synced(uri: str, root: str | None) -> None:
    assert local_root(uri) == (None if root is None else Path(root))


def is_waited_for(file: Path) -> bool:
    """Whether somebody waits for the lock of a file."""
    waiters = [line for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
    return any(f":{file.stat().st_ino} " in line for line in waiters)


async def until_waited_for(file: Path) -> None:
    async def waited_for() -> bool:
        return await asyncio.to_thread(is_waited_for, file)

    await until(waited_for, f"somebody waits for {file.name}")


async def test_a_table_that_is_dropped_leaves_no_file_however_late_it_is_maintained(tmp_path: Path) -> None:
    store = await LanceStore.open(str(tmp_path), boot="boot")
    other = TableFiles(tmp_path, "boot")
    await store.replace("c", [document("a", 1, gone=False)])
    with other.lock("c"):  # as another process that changes the table
        dropped = asyncio.create_task(store.drop("c"))
        await until_waited_for(tmp_path / "c.acknowledged")
        assert await store.count("c") == 2
    await dropped
    assert not os.listdir(tmp_path)
    with other.lock("c"):
        other.flush("c")
    await store.maintain("c")
    assert not os.listdir(tmp_path)
    await store.close()


async def test_who_waits_for_a_table_that_goes_gets_the_next_one_of_its_name(tmp_path: Path) -> None:
    files = TableFiles(tmp_path, "boot")
    with files.lock("t"):
        waiting = asyncio.create_task(asyncio.to_thread(files.lock, "t"))
        await until_waited_for(tmp_path / "t.acknowledged")
        files.forget("t")
    with await waiting:
        files.begin("t")
        assert len((tmp_path / "t.acknowledged").read_bytes()) > 0


def test_what_is_on_disk_is_not_synced_again(tmp_path: Path) -> None:
    (tmp_path / "t.lance" / "data").mkdir(parents=True)
    (tmp_path / "t.lance" / "data" / "one.lance").write_bytes(b"LANC")
    files = TableFiles(tmp_path, "boot")
    synced: list[int] = []
    with files.lock("t"), recorded(Disk(tmp_path), lambda: synced.append(1)):
        files.flush("t")
        first = len(synced)
        files.flush("t")
        assert len(synced) == first + RECORD > 3
        (tmp_path / "t.lance" / "data" / "two.lance").write_bytes(b"LANC")
        files.flush("t")
    assert len(synced) == first + 2 * RECORD + 2, "the file and its folder"
