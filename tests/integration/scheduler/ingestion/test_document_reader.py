"""Documents are read in processes of their own: a bad one fails alone and in time."""

import os
import select
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest

from services.scheduler.ingestion.chunking.chunker import Chunker, Chunking
from services.scheduler.ingestion.parsing import parse
from services.scheduler.ingestion.reader.reader import DocumentReader, WorkerStartError
from shared.contracts.problems import Problem, ProblemType

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent
MARKDOWN = b"# Guide\n\nFirst paragraph.\n\n## More\n\nSecond paragraph.\n"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


@asynccontextmanager
async def reading(**settings) -> AsyncIterator[DocumentReader]:
    settings = {"workers": 1, "formats": ["hostile_formats:FORMATS"]} | settings
    async with DocumentReader(**settings) as reader:
        yield reader


async def problem(reader: DocumentReader, name: str, data: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        await reader.read(name, data)
    return caught.value


async def test_what_is_not_read_of_a_document_is_said() -> None:
    async with reading() as reader:
        read = await reader.read("a.jsonl", b'{"lamp": 1}\n{"la')
        assert [(warning.kind, warning.detail) for warning in read.warnings] == [
            ("cut-off", "Line 2, the last one, is cut off and not read.")
        ]
        assert (await reader.read("a.md", MARKDOWN)).warnings == ()


async def worker_id(reader: DocumentReader) -> int:
    return int((await reader.read("a.tell", b"x")).metadata["pid"])


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def heard_from(pipe: Path) -> int:
    """The process id that a hanging document writes to a named pipe; returns when it hangs."""
    return int(await anyio.to_thread.run_sync(pipe.read_text, abandon_on_cancel=True))


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


async def test_a_document_comes_back_parsed_and_chunked():
    async with reading() as reader:
        document = await reader.read("guide.md", MARKDOWN)
    assert document.media_type == "text/markdown"
    assert document.metadata == {"title": "Guide"}
    assert document.chunks == tuple(Chunker().chunk(parse("guide.md", MARKDOWN).sections))


async def test_a_path_and_the_bytes_of_a_document_give_the_same(tmp_path):
    data = "\n\n".join(f"Paragraph number {number} of many, ünïcode." for number in range(20_000)).encode()
    path = tmp_path / "spooled"
    path.write_bytes(data)
    async with reading() as reader:
        by_path = await reader.read("long.txt", path)
        by_bytes = await reader.read("long.txt", data)
    assert len(by_path.chunks) > 512
    assert by_path == by_bytes
    assert [chunk.position for chunk in by_path.chunks] == list(range(len(by_path.chunks)))


async def test_a_problem_of_the_document_keeps_its_kind_and_its_worker():
    async with reading() as reader:
        worker = await worker_id(reader)
        assert (await problem(reader, "a.txt", b"")).kind is ProblemType.EMPTY_DOCUMENT
        assert (await problem(reader, "a.pdf", b"%PDF-1.4 nonsense")).kind is ProblemType.BROKEN_DOCUMENT
        assert (await problem(reader, "a.fail", b"x")).kind is ProblemType.BROKEN_DOCUMENT
        assert await worker_id(reader) == worker


async def test_a_document_over_the_size_limit_is_not_read(tmp_path):
    path = tmp_path / "large.txt"
    path.write_bytes(b"x" * 101)
    async with reading(max_document_bytes=100) as reader:
        assert (await problem(reader, "a.txt", b"x" * 101)).kind is ProblemType.TOO_LARGE
        with pytest.raises(Problem) as caught:
            await reader.read("a.txt", path)
        assert caught.value.kind is ProblemType.TOO_LARGE


async def test_a_document_that_takes_too_long_fails_alone():
    async with reading(time_limit_s=1.0) as reader:
        found = await problem(reader, "a.hang", b"silently")
        assert found.kind is ProblemType.DOCUMENT_LIMIT
        assert "1 s" in found.detail
        assert (await reader.read("b.md", MARKDOWN)).chunks


@pytest.mark.parametrize("at_once", [64 * 2**20, 100_000, 8 * 2**30])
async def test_a_document_that_takes_too_much_memory_fails_alone(at_once):
    async with reading(memory_limit_bytes=256 * 2**20) as reader:
        found = await problem(reader, "a.eat", str(at_once).encode())
        assert found.kind is ProblemType.DOCUMENT_LIMIT
        assert "256 MiB" in found.detail
        assert (await reader.read("b.md", MARKDOWN)).chunks


@pytest.mark.parametrize(
    ("name", "argument", "detail"),
    [("a.die", b"SIGSEGV", "SIGSEGV"), ("a.leave", b"3", "exit status 3"), ("a.leave", b"0", "exit status 0")],
)
async def test_a_document_that_crashes_its_worker_fails_alone(name, argument, detail):
    async with reading() as reader:
        found = await problem(reader, name, argument)
        assert found.kind is ProblemType.BROKEN_DOCUMENT
        assert detail in found.detail
        assert (await reader.read("b.md", MARKDOWN)).chunks


async def test_a_worker_that_aborts_or_is_killed_has_run_out_of_memory():
    async with reading() as reader:
        for name in (b"SIGABRT", b"SIGKILL"):
            assert (await problem(reader, "a.die", name)).kind is ProblemType.DOCUMENT_LIMIT


async def test_bad_documents_do_not_harm_those_read_beside_them():
    async with reading(workers=2, memory_limit_bytes=256 * 2**20) as reader:
        outcomes: dict[str, str] = {}

        async def read(name: str, data: bytes) -> None:
            try:
                outcomes[name] = (await reader.read(name, data)).media_type
            except Problem as found:
                outcomes[name] = found.kind.code

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(read, f"{number}.leave", b"9")
                tasks.start_soon(read, f"{number}.md", MARKDOWN)
                tasks.start_soon(read, f"{number}.eat", b"100000000")
    kinds = {"leave": "broken-document", "md": "text/markdown", "eat": "document-limit"}
    assert outcomes == {f"{number}.{suffix}": kind for number in range(5) for suffix, kind in kinds.items()}


async def test_what_a_parser_prints_does_not_disturb_the_answer():
    async with reading() as reader:
        assert (await reader.read("a.chatter", b"x")).chunks[0].text == "Facts."
        assert (await reader.read("b.md", MARKDOWN)).chunks


async def test_cancelling_a_read_kills_its_worker_and_another_takes_over(pipe):
    async with reading() as reader:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.read, "a.hang", str(pipe).encode())
            worker = await heard_from(pipe)
            tasks.cancel_scope.cancel()
        assert not is_running(worker)
        assert (await reader.read("b.md", MARKDOWN)).chunks


async def test_there_are_never_more_processes_than_workers():
    async with reading(workers=2) as reader:
        workers: set[int] = set()

        async def read() -> None:
            workers.add(await worker_id(reader))

        async with anyio.create_task_group() as tasks:
            for _ in range(12):
                tasks.start_soon(read)
    assert len(workers) <= 2


async def test_a_worker_is_reused_and_replaced_after_its_share_of_documents():
    async with reading(documents_per_worker=3) as reader:
        workers = [await worker_id(reader) for _ in range(6)]
    assert workers[:3] == [workers[0]] * 3
    assert workers[3:] == [workers[3]] * 3
    assert workers[0] != workers[3]


async def test_a_worker_knows_little_of_the_service(monkeypatch):
    monkeypatch.setenv("SLUICE_SECRET", "swordfish")
    async with reading() as reader:
        facts = (await reader.read("a.tell", b"x")).metadata
    modules = set(str(facts["modules"]).split())
    assert not modules & {"torch", "lancedb", "faststream", "pytest", "transformers", "numpy"}
    assert "SLUICE_SECRET" not in str(facts["environment"])


async def test_workers_end_with_the_reader():
    async with reading() as reader:
        worker = await worker_id(reader)
    assert not is_running(worker)


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_workers_end_with_a_service_that_is_killed_while_they_read(pipe):
    program = (
        "import anyio\n"
        "from services.scheduler.ingestion.reader.reader import DocumentReader\n"
        "async def main():\n"
        "    async with DocumentReader(workers=1, formats=['hostile_formats:FORMATS']) as reader:\n"
        f"        await reader.read('a.hang', {str(pipe).encode()!r})\n"
        "anyio.run(main)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, sys.path)])}
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as service:
        worker = os.pidfd_open(int(pipe.read_text()))
        service.kill()
    ended, _, _ = select.select([worker], [], [], 30)
    os.close(worker)
    assert ended


async def test_settings_that_cannot_work_are_reported_when_the_reader_is_entered(tmp_path):
    for wrong in ({"tokenizer": tmp_path}, {"formats": ["no_such_module:FORMATS"]}):
        with pytest.raises(WorkerStartError):
            async with reading(workers=2, **{"formats": [], **wrong}):
                pass


async def test_the_fingerprint_tells_the_settings_apart():
    prints = []
    for settings in ({}, {"chunking": Chunking(max_tokens=128)}, {"formats": []}):
        async with reading(**settings) as reader:
            prints.append(reader.fingerprint())
    async with reading() as reader:
        assert reader.fingerprint() == prints[0]
    assert len(set(prints)) == 3


async def test_documents_of_one_tenant_that_take_long_do_not_stop_those_of_another(pipe: Path) -> None:
    async with reading(workers=1, spare=1) as reader, anyio.create_task_group() as tasks:
        hanging = partial(reader.read, "a.hang", str(pipe).encode(), tenant="slow")
        tasks.start_soon(hanging)
        await heard_from(pipe)
        tasks.start_soon(hanging)  # it waits: the spare process is not for a tenant of which something is being read
        for _ in range(3):
            assert (await reader.read("b.md", MARKDOWN, tenant="quick")).chunks
        tasks.cancel_scope.cancel()
