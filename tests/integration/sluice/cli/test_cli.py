"""The command line against a gateway without services."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sluice.cli import main
from tests.harness.fake_gateway import FakeGateway

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sluice(fake_gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `sluice ARG...` against the gateway: exit status, output, error output."""
    monkeypatch.setenv("SLUICE_URL", fake_gateway.url)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sluice", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        output = capsys.readouterr()
        return int(left.value.code or 0), output.out, output.err

    return run


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    for name in ("a.md", "guide/b.txt", ".hidden", ".git/config", "node_modules/x.js", "guide/__pycache__/y.pyc"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"text of {name}")
    return folder


def test_an_answer_is_followed_by_its_sources_and_timings(sluice: Run, fake_gateway: FakeGateway) -> None:
    status, output, _ = sluice("ask", "How long is the warranty?", "-c", "shop", "--filter", '{"year": 2024}')
    assert status == 0
    assert output.splitlines() == [
        "24 months [1].",
        "",
        "Sources",
        "  [1] docs/warranty.md #2  0.912",
        "      The warranty runs for 24 months.",
        "",
        "32 ms · first words 12 ms · embed 8 ms · extractive",
    ]
    asked = fake_gateway.queries[0]
    assert (asked["collection"], asked["filter"], asked["stream"]) == ("shop", {"year": 2024}, True)


def test_an_answer_says_what_it_cites_and_what_did_not_fit(sluice: Run, fake_gateway: FakeGateway) -> None:
    fake_gateway.end = {"cited": [1], "context": {"window": 4096, "dropped": [3, 4], "shortened": [2]}}
    _, output, _ = sluice("ask", "How long is the warranty?")
    assert "  [1] docs/warranty.md #2  0.912  cited" in output.splitlines()
    left_out = "[3] [4] did not fit into the context window of 4,096 tokens, of [2] only the first sentences did"
    assert left_out in output.splitlines()


def test_ask_json_prints_the_whole_answer(sluice: Run) -> None:
    status, output, _ = sluice("ask", "How long?", "--json")
    answer = json.loads(output)
    assert (status, answer["answer"], answer["sources"][0]["score"]) == (0, "24 months [1].", 0.912)


def test_a_filter_that_is_not_json_is_wrong_usage(sluice: Run, fake_gateway: FakeGateway) -> None:
    status, _, error = sluice("ask", "How long?", "--filter", "{year}")
    assert (status, fake_gateway.queries) == (2, [])
    assert "not JSON" in error


def test_a_problem_is_printed_with_its_detail(sluice: Run) -> None:
    status, _, error = sluice("ask", "How long?", "-c", "missing")
    assert (status, error) == (1, "collection-not-found: there is no collection 'missing'\n")


def test_a_failure_in_the_middle_of_an_answer_is_a_failure(sluice: Run, fake_gateway: FakeGateway) -> None:
    fake_gateway.answer_fails = "it ran out of memory"
    status, output, error = sluice("ask", "How long?")
    assert (status, output.strip()) == (1, "24")
    assert error == "The engine failed: it ran out of memory\n"


def test_ingest_names_documents_from_the_given_folder_on(sluice: Run, fake_gateway: FakeGateway, docs: Path) -> None:
    status, output, _ = sluice("ingest", str(docs), "-c", "team", "-m", "year=2024", "-m", "by=Ann")
    assert status == 0
    assert fake_gateway.uploads == [["docs/a.md", "docs/guide/b.txt"]]
    assert fake_gateway.collections["team"]["docs/a.md"] == b"text of a.md"
    assert fake_gateway.metadata["docs/a.md"] == {"year": 2024, "by": "Ann"}
    assert "2 indexed, 0 skipped, 0 failed, 6 chunks" in output


def test_ingest_again_skips_what_has_not_changed(sluice: Run, docs: Path) -> None:
    sluice("ingest", str(docs))
    (docs / "a.md").write_text("changed")
    status, output, _ = sluice("ingest", str(docs), "--json")
    outcome = json.loads(output)
    assert (status, outcome["indexed"], outcome["skipped"], outcome["failed"]) == (0, 1, 1, 0)


def test_a_document_that_fails_is_named_with_its_reason(sluice: Run, fake_gateway: FakeGateway, docs: Path) -> None:
    fake_gateway.broken_documents["docs/a.md"] = "it is not text"
    status, output, _ = sluice("ingest", str(docs))
    assert status == 1
    assert "✗ docs/a.md  Broken: it is not text" in output


def test_a_file_that_is_too_large_fails_here_and_is_not_sent(
    sluice: Run, fake_gateway: FakeGateway, docs: Path
) -> None:
    with (docs / "video.bin").open("wb") as file:
        file.truncate(51 * 2**20)
    status, output, _ = sluice("ingest", str(docs))
    assert status == 1
    assert "✗ docs/video.bin  The file is 51 MB; at most 50 MB are taken" in output
    assert fake_gateway.uploads == [["docs/a.md", "docs/guide/b.txt"]]


def test_many_files_travel_in_several_requests(sluice: Run, fake_gateway: FakeGateway, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(450):
        (folder / f"{number:03}.txt").write_text(str(number))
    status, output, _ = sluice("ingest", str(folder), "--json")
    assert (status, json.loads(output)["indexed"]) == (0, 450)
    assert [len(upload) for upload in fake_gateway.uploads] == [200, 200, 50]


def test_ingest_survives_a_gateway_that_restarts(sluice: Run, fake_gateway: FakeGateway, docs: Path) -> None:
    fake_gateway.dropped_watches = 2
    status, output, _ = sluice("ingest", str(docs), "--json")
    assert (status, json.loads(output)["indexed"], fake_gateway.dropped_watches) == (0, 2, 0)


def test_documents_without_a_file_are_hinted_at_and_pruned_when_asked(
    sluice: Run, fake_gateway: FakeGateway, docs: Path
) -> None:
    gone = {f"docs/gone{number}.md": b"" for number in range(5)}
    fake_gateway.collections["default"] = {**gone, "other/kept.md": b"", "docsabc.md": b""}
    _, output, _ = sluice("ingest", str(docs))
    assert "5 documents without a file any more (docs/gone0.md, docs/gone1.md, docs/gone2.md, …); --prune" in output
    assert not fake_gateway.deletions
    status, output, _ = sluice("ingest", str(docs), "--prune", "--exclude", "*.md")
    assert status == 0
    assert "Deleted 5 documents without a file" in output
    assert sorted(fake_gateway.collections["default"]) == [
        "docs/a.md",
        "docs/guide/b.txt",
        "docsabc.md",
        "other/kept.md",
    ]


def test_no_wait_prints_the_jobs(sluice: Run, docs: Path) -> None:
    status, output, _ = sluice("ingest", str(docs), "--no-wait")
    assert status == 0
    assert "sluice jobs follow job-1" in output


def test_wrong_usage_of_ingest_is_said_before_anything_is_sent(
    sluice: Run, fake_gateway: FakeGateway, docs: Path, tmp_path: Path
) -> None:
    (tmp_path / "b" / "docs").mkdir(parents=True)
    (tmp_path / "b" / "docs" / "a.md").write_text("another")
    assert sluice("ingest", str(docs / "missing"))[0] == 2
    assert sluice("ingest", str(docs), "-m", "novalue")[0] == 2
    assert sluice("ingest", str(docs), str(tmp_path / "b" / "docs"))[0] == 2
    assert fake_gateway.requests == []


def test_nothing_listening_says_how_to_start_it(sluice: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    for command in (["status"], ["ask", "Who?"], ["collections", "list"]):
        status, _, error = sluice(*command, "--url", url)
        assert (status, error.strip()) == (
            3,
            f"Sluice cannot be reached: no Sluice at {url}; start it with `sluice up`",
        )


def test_collections_are_listed_created_and_deleted(sluice: Run, fake_gateway: FakeGateway) -> None:
    assert sluice("collections", "create", "team")[1] == "Collection team is there.\n"
    assert json.loads(sluice("collections", "--json")[1])[0]["name"] == "team"
    assert sluice("collections")[1].split("\t")[:2] == ["team", "0"]
    assert sluice("collections", "delete", "team", "--yes")[0] == 0
    assert fake_gateway.collections == {}


def test_documents_are_listed_over_all_pages_and_deleted(sluice: Run, fake_gateway: FakeGateway) -> None:
    fake_gateway.collections["team"] = {f"docs/{number}.md": b"x" for number in range(5)}
    _, output, _ = sluice("documents", "list", "docs/", "-c", "team")
    assert [line.split("\t")[0] for line in output.splitlines()] == [f"docs/{number}.md" for number in range(5)]
    assert json.loads(sluice("documents", "-c", "team", "list", "--json")[1])[4]["name"] == "docs/4.md"
    assert sluice("documents", "delete", "docs/1.md", "docs/3.md", "-c", "team")[0] == 0
    assert fake_gateway.deletions == [["docs/1.md", "docs/3.md"]]


def test_jobs_are_listed_shown_and_followed(sluice: Run, fake_gateway: FakeGateway, docs: Path) -> None:
    fake_gateway.broken_documents["docs/a.md"] = "it is not text"
    sluice("ingest", str(docs), "--no-wait")
    assert sluice("jobs")[1].split("\t")[:4] == ["job-1", "ingest", "succeeded", "2/2"]
    assert sluice("jobs", "list", "--state", "failed", "--json")[1] == "[]\n"
    assert sluice("jobs", "list", "--state", "lost")[0] == 2
    status, output, _ = sluice("jobs", "follow", "job-1")
    assert status == 1
    assert "running  1/2" in output
    assert "✗ docs/a.md  Broken: it is not text" in output
    assert sluice("jobs", "show", "job-9")[2] == "not-found: there is no job job-9\n"


def test_status_shows_services_queues_and_dead_letters(sluice: Run, fake_gateway: FakeGateway) -> None:
    _, output, _ = sluice("status")
    assert f"Sluice 9.9.9 at {fake_gateway.url} on NATS 2.15.1" in output
    assert "embedder\te-1\tready\tembed/default (1+2 in flight)" in output
    assert "embed/default\tinteractive\t3\t1" in output
    assert "2 dead letters" in output
    assert json.loads(sluice("status", "--json")[1])["jobs"] == {"waiting": 4, "in_flight": 1}


def test_dead_letters_are_listed_and_replayed(sluice: Run) -> None:
    assert sluice("dead-letters")[1] == "7\tquery.embed\t4\tit failed four times\n"
    assert sluice("dead-letters", "replay", "7")[1] == "Dead letter 7 is on its way again.\n"
    assert sluice("dead-letters", "replay", "8")[0] == 1


def test_a_dead_letter_is_shown_and_discarded(sluice: Run) -> None:
    assert sluice("dead-letters", "show", "7")[1] == "query.embed, 4 tries: it failed four times\n{}\n"
    assert sluice("dead-letters", "discard", "7")[1] == "Dead letter 7 is forgotten.\n"
    assert sluice("dead-letters", "discard", "8")[0] == 1


def test_pipelines_and_versions_are_told(sluice: Run) -> None:
    assert sluice("pipelines")[1] == "default\nprecise\n"
    assert sluice("pipelines", "graph", "default")[1] == "default\n└─ embed\n"
    assert sluice("pipelines", "graph", "default", "-f", "mermaid")[1].startswith("flowchart TD")
    assert json.loads(sluice("pipelines", "graph", "default", "--json")[1])["steps"] == ["embed"]
    code, _, error = sluice("pipelines", "graph", "none")
    assert (code, "the pipelines are: default, precise" in " ".join(error.split())) == (2, True)
    assert json.loads(sluice("version", "--json")[1])["server"] == "9.9.9"


def test_doctor_finds_stages_without_workers_and_says_what_to_do(
    sluice: Run, fake_gateway: FakeGateway, tmp_path: Path
) -> None:
    status, output, _ = sluice("doctor", "--data", str(tmp_path), "--port", "0", "--json")
    checks = {check["name"]: check for check in json.loads(output)["checks"]}
    assert status == 1
    assert checks["Sluice"]["message"] == f"9.9.9 at {fake_gateway.url}"
    assert checks["stages"]["verdict"] == "wrong"
    assert "generate, retrieve" in checks["stages"]["message"]
    assert checks["stages"]["remedy"]
    assert checks["dead letters"]["verdict"] == "doubtful"
    assert checks["nats-server"]["verdict"] == "good"
    assert checks["model"]["verdict"] == "good"


def test_doctor_names_a_folder_that_cannot_be_used(sluice: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    _, output, _ = sluice("doctor", "--data", str(tmp_path / "file"), "--port", "0", "--json")
    checks = {check["name"]: check for check in json.loads(output)["checks"]}
    assert checks["data folder"]["verdict"] == "wrong"


def test_the_command_line_imports_no_http_client_before_it_needs_one() -> None:
    program = "import sys, sluice.cli; print([m for m in ('httpx', 'pydantic', 'asyncio') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
