"""The commands of jobs and their files against a real gateway."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sluice.cli import main
from tests.harness.paths import EXAMPLES
from tests.harness.processes import ServiceProcess

Run = Callable[..., tuple[int, str, str]]

NIGHTLY = EXAMPLES / "nightly" / "pipeline.yaml"


@pytest.fixture
def sluice(
    gateway: ServiceProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> Run:
    """Runs `sluice ARG...` against the gateway: exit status, output, error output."""
    monkeypatch.setenv("SLUICE_URL", gateway.url)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sluice", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        output = capsysbinary.readouterr()
        return int(left.value.code or 0), output.out.decode(), output.err.decode()

    return run


def written(name: str, text: str) -> Path:
    path = Path(name)
    path.write_text(text)
    return path


def test_files_for_jobs_are_uploaded_downloaded_replaced_and_removed(sluice: Run) -> None:
    lines = written("lines.jsonl", '{"question": "Wer hat\'s gebaut? é"}\n')
    assert sluice("artifacts", "put", lines, "batches/first.jsonl") == (0, "batches/first.jsonl: 37 B\n", "")
    assert sluice("artifacts", "get", "batches/first.jsonl", "-o", "-")[:2] == (0, lines.read_text())
    assert sluice("artifacts", "get", "batches/first.jsonl")[:2] == (0, "first.jsonl: 37 B\n")
    assert Path("first.jsonl").read_bytes() == lines.read_bytes()
    large = written("large.bin", "x" * 1_500_000)
    status, output, _ = sluice("artifacts", "put", large, "batches/first.jsonl", "--json")
    assert (status, json.loads(output)["bytes"]) == (0, 1_500_000)
    assert sluice("artifacts", "get", "batches/first.jsonl", "-o", "there.bin")[1] == "there.bin: 1.5 MB\n"
    assert Path("there.bin").read_bytes() == large.read_bytes()
    assert sluice("artifacts", "delete", "batches/first.jsonl")[:2] == (
        0,
        "There is no batches/first.jsonl any more.\n",
    )
    status, _, error = sluice("artifacts", "get", "batches/first.jsonl", "-o", "gone.jsonl")
    assert (status, error) == (1, "There is no such resource: There is no artifact 'batches/first.jsonl'.\n")
    assert not Path("gone.jsonl").exists()


def test_a_file_without_a_folder_in_its_name_is_wrong_usage(sluice: Run) -> None:
    for verb in (("put", written("a.txt", "a")), ("get",), ("delete",)):
        status, _, error = sluice("artifacts", *verb, "a.txt")
        assert status == 2
        assert "'a.txt' is not FOLDER/FILE" in error


def test_what_is_wrong_with_a_file_is_shown_with_its_line_and_column(sluice: Run) -> None:
    switch = "spec: {kind: switch, collection: docs}\n"
    cases = {
        "kind: dance\n": (1, "job.yaml:1:1: kind: there is no kind 'dance'; the kinds are bandit,"),
        "kind: switch\ncollection: docs\nversoin: v2\n": (1, "job.yaml:3:1: versoin: there is no such member"),
        "kind: switch\n": (1, "job.yaml: collection: Field required"),
        f"{switch}priority: urgent\n": (1, "job.yaml:2:1: priority: Input should be 'high', 'normal' or 'low'"),
        f"{switch}speed: 3\n": (2, "job.yaml:2:1: 'speed' is not known; beside `spec` there are priority,"),
        "kind: [switch\n": (2, "job.yaml:2:1: expected ',' or ']'"),
        "kind: switch\nkind: switch\n": (2, "job.yaml:2:1: 'kind' is here twice"),
        "collection: docs\n": (2, "job.yaml: a job has a `kind`"),
        "": (2, "job.yaml: write members here"),
    }
    for text, (status, complaint) in cases.items():
        found, _, error = sluice("jobs", "submit", written("job.yaml", text))
        assert (found, error[: len(complaint)]) == (status, complaint)


def test_all_faults_of_a_pipeline_are_shown_in_the_order_of_the_file(sluice: Run) -> None:
    steps = """steps:
  a:
    when: b.ok
    job: {kind: evaluate, input: q/a.jsonl, colection: docs}
  b:
    needs: [c]
    job: {kind: command, args: ["${{ parameters.x }}"]}
"""
    status, _, error = sluice("run", written("broken.yaml", steps))
    assert status == 1
    assert error.splitlines() == [
        "broken.yaml:4:45: steps.a.job.colection: there is no such member",
        "broken.yaml:6:5: steps.b.needs: there is no step 'c'; the steps are a, b",
        "broken.yaml:7:33: steps.b.job.args[0]: there is no parameter 'x'; the parameters are: none",
    ]


def test_a_parameter_that_has_to_be_given_is_named(sluice: Run) -> None:
    status, _, error = sluice("run", NIGHTLY)
    assert status == 1
    assert error.endswith("folder.path: the parameter 'folder' has no value, and one is needed here\n")
    assert sluice("run", NIGHTLY, "-p", "foldr=/srv")[0] == 2
    assert sluice("run", NIGHTLY, "-p", "minimum=high")[0] == 2


def test_the_same_key_twice_is_one_job_that_can_be_looked_at_and_cancelled(sluice: Run) -> None:
    file = written("job.yaml", "spec: {kind: switch, collection: docs}\nlabels: {team: search}\n")

    def submit(*more: str) -> dict[str, Any]:
        job: dict[str, Any] = json.loads(sluice("jobs", "submit", file, "--key", "once", "--json", *more)[1])
        return job

    job = submit()
    assert submit()["id"] == job["id"]
    file.write_text("spec: {kind: switch, collection: wiki}\n")
    status, _, error = sluice("jobs", "submit", file, "--key", "once")
    assert status == 1
    assert "Idempotency-Key was used for another job" in error
    assert sluice("jobs", "list", "--label", "team=search")[1].split("\t")[:3] == [job["id"], "switch", "queued"]
    assert sluice("jobs", "cancel", job["id"], "-r", "wrong collection")[1] == f"Job {job['id']} is cancelled.\n"
    audit = [line.split("\t") for line in sluice("jobs", "audit", job["id"])[1].splitlines()]
    assert [(line[1], line[4]) for line in audit] == [("queued", "submitted"), ("cancelled", "wrong collection")]
    assert sluice("jobs", "show", job["id"])[0] == 1
    assert json.loads(sluice("jobs", "spec", job["id"])[1])["collection"] == "docs"


def test_runs_are_listed_shown_compared_and_plotted(sluice: Run) -> None:
    ids = []
    for rank in (5, 10):
        spec = written("e.yaml", f"kind: evaluate\ncollection: docs\ninput: q/a.jsonl\ntop_k: {rank}\n")
        ids.append(json.loads(sluice("jobs", "submit", spec, "--json")[1])["id"])
    listed = sluice("runs", "list", "--kind", "evaluate", "--collection", "docs", "-n", "2")[1].splitlines()
    assert [line.split("\t")[:4] for line in listed] == [[one, "evaluate", "docs", "queued"] for one in reversed(ids)]
    status, shown, _ = sluice("runs", "show", ids[0])
    assert (status, ["top_k", "5"] in [line.split() for line in shown.splitlines()]) == (0, True)
    assert json.loads(sluice("runs", "show", ids[0], "--json")[1])["run"]["parameters"]["top_k"] == 5
    assert "top_k\t5\t10" in sluice("runs", "compare", *ids)[1].splitlines()
    assert json.loads(sluice("runs", "compare", *ids, "--json")[1])["parameters"] == {"top_k": [5, 10]}
    assert sluice("runs", "plot", *ids, "-o", "plot.html") == (0, "plot.html: 2 runs\n", "")
    assert "What differs" in Path("plot.html").read_text()
    assert sluice("runs", "compare", ids[0])[0] == 2
    assert sluice("runs", "show", "nobody")[0] == 1
