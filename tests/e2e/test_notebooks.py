"""The example notebooks do what they say, on a real platform."""

from pathlib import Path
from typing import Final

import nbformat
import pytest

from tests.harness.notebooks import Executed, execute
from tests.harness.paths import EXAMPLES
from tests.harness.platform import Platform

FOLDER: Final = EXAMPLES / "notebooks"
NOTEBOOKS: Final = sorted(FOLDER.glob("*.ipynb"))


def executed(name: str, platform: Platform) -> Executed:
    notebook = nbformat.read(FOLDER / name, as_version=4)
    return execute(notebook, cwd=FOLDER, SLUICE_URL=platform.url)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_small_and_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert path.stat().st_size < 20_000


def test_first_answers(platform: Platform) -> None:
    notebook = executed("first-answers.ipynb", platform)
    assert "Facts about a harbour" in notebook.shown("create_collection")
    progress, job = notebook.shown("client.add_texts").split("\n<div class=", 1)
    assert "succeeded" in progress
    assert "3 documents: 3 indexed" in job
    assert "lighthouse.md" in notebook.shown("document_page")
    answer = notebook.shown("answer = client.query")
    assert "Ottilie Brandt" in answer
    assert '<b title="lighthouse.md #0">[1]</b>' in answer
    assert "<details><summary><b>[1] <bdi>lighthouse.md</bdi></b>" in answer
    assert "· cited" in answer
    assert "confidence 0." in answer
    assert "[1] lighthouse.md" in notebook.printed("print(answer.answer)")
    assert "quarter past six" in notebook.shown("streamed = show")
    assert "no source seems to answer the question" in notebook.shown("unknown = client.query")
    assert "succeeded" in notebook.shown("delete_collection")


def test_jobs(platform: Platform) -> None:
    notebook = executed("jobs.ipynb", platform)
    assert "5 documents: 5 indexed" in notebook.shown("ingest = {")
    assert notebook.printed("again = client.wait") == "0 indexed, 5 skipped\n"
    assert "succeeded" in notebook.printed("for change in client.watch")
    assert notebook.shown("for change in client.watch") == ""
    assert "succeeded" in notebook.shown("client.job_audit")
    assert "0 3 * * * Europe/Berlin" in notebook.shown("create_schedule")
    assert "5 skipped" in notebook.shown("trigger_schedule")
    words = notebook.shown("client.put_artifact")
    assert "14 questions · text search · top 3" in words
    assert "recall@3" in words
    assert "<svg" in words
    compared = notebook.shown("hybrid = client.wait")
    assert "against the baseline" in compared
    assert "<bdi>evaluate</bdi>" in notebook.shown("client.jobs(limit=5)")


def test_search(platform: Platform) -> None:
    notebook = executed("search.ipynb", platform)
    listed = notebook.shown('client.document_page("reports")')
    assert listed.count("<tr>") == 5
    assert "year: 2024" in listed
    assert "group:hr" in listed
    assert "after=" in notebook.shown("limit=2")
    assert "reports/2024.md" in notebook.shown("def search")
    recent = notebook.shown('filter={"year": {"$gte": 2024}}')
    assert "reports/2024.md" in recent
    assert "reports/2025.md" in recent
    assert "reports/2023.md" not in recent
    assert "410,000 crowns" in notebook.shown('collection="reports", filter=')
    assert "year" in notebook.printed("except SluiceError")
    assert "reports/2024.md" in notebook.shown("rerank=True")
    assert "group:hr, user:alice" in notebook.shown("client.permit")
