"""A file of the index is damaged: what comes of it is right, or is said. Nothing is silently wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from services.retriever.ranking.ranker import RankOptions
from services.retriever.stores.base import Chunk, IndexedDocument
from services.retriever.stores.lance.checksums import Checksum, Checksums
from services.retriever.stores.lance.durability import TableFiles
from services.retriever.stores.lance.store import LanceStore
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.retrieval import SearchMode
from tests.harness.power_cut import Disk, recorded

pytestmark = pytest.mark.anyio

TABLE = "c"
ROWS = 300
DIMENSION = 8
EXACT = RankOptions(mode=SearchMode.VECTOR, fold_copies=False)
WORDS = RankOptions(mode=SearchMode.TEXT, fold_copies=False)
ASKED = np.arange(DIMENSION, dtype=np.float32) + 1

Answer = tuple[object, ...]
Damage = Callable[[Path], None]


def cut_in_half(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(share: float) -> Damage:
    def flipped(file: Path) -> None:
        data = bytearray(file.read_bytes())
        if data:
            data[int(share * (len(data) - 1))] ^= 0x10
            file.write_bytes(data)

    return flipped


DAMAGES: dict[str, Damage] = {
    "cut in half": cut_in_half,
    "empty": empty,
    "gone": Path.unlink,
    "flipped at the beginning": flip(0.0),
    "flipped in the middle": flip(0.5),
    "flipped near the end": flip(0.97),
}


def document(number: int, revision: int) -> IndexedDocument:
    vector = np.random.default_rng([number, revision]).normal(size=DIMENSION).astype(np.float32)
    text = f"The lamp{number} shines as of revision{revision}."
    return IndexedDocument(
        id=f"d{number}",
        name=f"d{number}",
        version="v",
        revision=revision,
        chunks=[Chunk(position=0, text=text, vector=vector)],
    )


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with data, deletions and indices."""
    made = tmp_path_factory.mktemp("index")
    store = await LanceStore.open(str(made), index_from_rows=256)
    await store.replace(TABLE, [document(number, 1) for number in range(ROWS)])
    await store.maintain(TABLE)
    await store.replace(TABLE, [document(number, 2) for number in range(5)])
    await store.close()
    return made


async def answer(folder: Path) -> Answer:
    """What users get: the texts that are found, how many there are, and which revision of each document."""
    store = await LanceStore.open(str(folder), index_from_rows=256)
    try:
        found = await store.search(TABLE, "", ASKED, top_k=20, options=EXACT)
        words = [await store.search(TABLE, f"lamp{n} revision2", None, top_k=3, options=WORDS) for n in (1, 3, 7)]
        documents = await store.documents(TABLE)
        return (
            [(hit.document_id, hit.text, round(hit.score, 5)) for hit in found],
            [[hit.text for hit in hits] for hits in words],
            await store.count(TABLE),
            sorted(documents.items()),
        )
    finally:
        await store.close()


async def outcome_of(folder: Path, right: Answer) -> str:
    try:
        return "right" if await answer(folder) == right else "an older version"
    except Problem as problem:
        return "refused" if problem.kind is ProblemType.INDEX_DAMAGED else str(problem)


def files_of(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


async def test_no_damage_of_a_file_gives_a_wrong_answer(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    right = await answer(folder)
    seen: dict[str, set[str]] = {}
    for file in files_of(folder):
        for name, damage in DAMAGES.items():
            copy = tmp_path / "copy"
            shutil.copytree(folder, copy)
            damage(copy / file)
            caplog.clear()
            outcome = await outcome_of(copy, right)
            said = any(record.levelname == "ERROR" for record in caplog.records)
            assert outcome in ("right", "refused") or (outcome == "an older version" and said), (file, name, outcome)
            seen.setdefault(file.parts[1] if len(file.parts) > 1 else file.suffix, set()).add(outcome)
            shutil.rmtree(copy)
    assert "refused" in seen["data"]
    assert "refused" in seen["_indices"]
    assert "an older version" in seen["_versions"]
    assert seen[".acknowledged"] == seen[".checksums"] == seen["_transactions"] == {"right"}


async def test_a_damaged_table_can_be_dropped_and_made_again(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    flip(0.5)(next((copy / "c.lance" / "data").iterdir()))
    store = await LanceStore.open(str(copy))
    with pytest.raises(Problem) as raised:
        await store.replace(TABLE, [document(1, 3)])
    assert raised.value.kind is ProblemType.INDEX_DAMAGED
    await store.drop(TABLE)
    assert await store.count(TABLE) == 0
    await store.replace(TABLE, [document(1, 3)])
    assert await store.count(TABLE) == 1
    await store.close()


async def test_a_version_that_was_set_aside_may_have_its_number_again(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    empty(min((copy / "c.lance" / "_versions").glob("*.manifest")))
    for revision in (3, 4):
        store = await LanceStore.open(str(copy))
        await store.replace(TABLE, [document(1, revision)])
        await store.close()
    store = await LanceStore.open(str(copy))
    assert (await store.documents(TABLE))["d1"] == 4
    await store.close()
    assert len(list((copy / "c.lance" / "_versions").glob("*.damaged"))) == 1


def test_contents_are_compared_up_to_a_number_of_bytes_and_sizes_always(tmp_path: Path) -> None:
    data = tmp_path / "t.lance" / "data"
    data.mkdir(parents=True)
    for name in ("old", "new"):
        (data / name).write_bytes(b"x" * 1000)
        with (files := TableFiles(tmp_path, "boot")).lock("t"), recorded(Disk(tmp_path)):
            files.flush("t")
    for name in ("old", "new"):
        flip(0.5)(data / name)
    assert TableFiles(tmp_path, "boot", verified_bytes=1500).recover("t") == ["data/new"]
    assert len(TableFiles(tmp_path, "boot").recover("t")) == 2
    cut_in_half(data / "old")
    assert len(TableFiles(tmp_path, "boot", verified_bytes=0).recover("t")) == 1


def test_lines_of_files_that_are_gone_are_left_out_in_the_end(tmp_path: Path) -> None:
    kept = {f"kept{n}": Checksum(n, n) for n in range(10)}
    sums = Checksums(tmp_path / "sums")
    sums.add({f"gone{n}": Checksum(n, n) for n in range(2000)}, {f"gone{n}" for n in range(2000)})
    sums.add(kept, set(kept))
    assert dict(Checksums(tmp_path / "sums").read()) == dict(sums.read()) == kept
