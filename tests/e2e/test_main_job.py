"""The main job through the front door: documents in, answers with sources out."""

import json
from pathlib import Path

import httpx
import pytest

from sluice import Client
from tests.harness.platform import Platform, eventually

QUESTIONS = [
    ("Who built the blue lamp?", "library/lamps/blue.md", "Ottilie Brandt"),
    ("What is the red lamp lit with?", "library/lamps/red.txt", "rape-seed oil"),
    ("When does the ferry to Rauma leave?", "library/ferries.html", "quarter past six"),
    ("When is high water at Sundsholm?", "library/tides.csv", "04:10"),
    ("Who is the captain?", "library/crew.json", "Ilse Varga"),
]


def ingest(platform: Platform, folder: Path, collection: str, *more: str) -> dict[str, int]:
    summary: dict[str, int] = json.loads(
        platform.sluice("ingest", str(folder), "--collection", collection, "--json", *more)
    )
    return summary


def test_a_folder_is_ingested_and_each_question_finds_its_document_first(
    platform: Platform, client: Client, documents_folder: Path
) -> None:
    summary = ingest(platform, documents_folder, "first")
    assert (summary["indexed"], summary["failed"]) == (5, 0)
    for question, document, fact in QUESTIONS:
        answer = client.query(question, collection="first")
        assert answer.sources[0].document == document, question
        assert fact in answer.answer
        assert "[1]" in answer.answer
        assert [stage.stage for stage in answer.timings.stages] == ["embed", "retrieve", "generate"]
        assert len(answer.trace_id) == 32


def test_a_trace_shows_every_service_that_worked_on_a_question_or_a_job(
    platform: Platform, client: Client, documents_folder: Path
) -> None:
    ingest(platform, documents_folder, "traced")
    answer = client.query("Who is the captain?", collection="traced")
    job = next(job for job in client.jobs() if job.collection == "traced" and job.kind == "ingest")
    for named, services in (
        (answer.id, {"gateway", "embedder", "retriever", "generator"}),
        (job.id, {"gateway", "scheduler", "embedder", "retriever"}),
    ):
        eventually(
            lambda named=named, services=services: {span.service for span in client.trace(named).spans} == services,
            f"the trace of {named}",
        )
    assert "process query.generate" in platform.sluice("trace", answer.id)


def test_an_unchanged_folder_is_skipped_and_one_edit_indexes_one_document(
    platform: Platform, client: Client, documents_folder: Path
) -> None:
    ingest(platform, documents_folder, "again")
    summary = ingest(platform, documents_folder, "again")
    assert (summary["indexed"], summary["skipped"]) == (0, 5)

    (documents_folder / "crew.json").write_text('{"captain": "Mirela Osk", "cook": "Tomas Lind", "boat": "Kestrel"}')
    summary = ingest(platform, documents_folder, "again")
    assert (summary["indexed"], summary["skipped"]) == (1, 4)
    answer = client.query("Who is the captain?", collection="again")
    assert "Mirela Osk" in answer.answer
    assert all("Ilse Varga" not in source.text for source in answer.sources)


def test_a_deleted_file_leaves_the_answers_with_prune(
    platform: Platform, client: Client, documents_folder: Path
) -> None:
    ingest(platform, documents_folder, "pruned")
    (documents_folder / "crew.json").unlink()
    summary = ingest(platform, documents_folder, "pruned", "--prune")
    assert summary["skipped"] == 4
    answer = client.query("Who is the captain?", collection="pruned", top_k=10)
    assert all(source.document != "library/crew.json" for source in answer.sources)
    assert len(list(client.documents("pruned"))) == 4


def test_ask_streams_the_answer_and_then_lists_the_sources(platform: Platform, documents_folder: Path) -> None:
    ingest(platform, documents_folder, "asked")
    shown = platform.sluice("ask", "Who built the blue lamp?", "--collection", "asked")
    assert shown.index("Ottilie Brandt") < shown.index("library/lamps/blue.md")


def test_a_stream_is_sources_then_deltas_then_done(platform: Platform, documents_folder: Path) -> None:
    ingest(platform, documents_folder, "streamed")
    body = {"question": "Who built the blue lamp?", "collection": "streamed", "stream": True}
    with httpx.stream("POST", f"{platform.url}/v1/query", json=body, timeout=60, trust_env=False) as response:
        lines = list(response.iter_lines())
    events = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert events[0] == "sources"
    assert events[-1] == "done"
    assert set(events[1:-1]) == {"delta"}
    done = json.loads([line for line in lines if line.startswith("data: ")][-1].removeprefix("data: "))
    assert done["engine"] == "extractive"
    assert done["usage"]["completion_tokens"] > 0
    assert all(stage["waited_ms"] >= 0 for stage in done["timings"]["stages"])


def test_a_filter_on_metadata_narrows_the_search_and_a_missing_field_is_named(
    client: Client, platform: Platform
) -> None:
    client.create_collection("filtered")
    for year in (2019, 2024):
        text = f"The budget of {year} was balanced."
        job = client.add_texts("filtered", {f"report-{year}": text}, metadata={"year": year})
        client.wait(job.id)
    answer = client.query("Was the budget balanced?", collection="filtered", filter={"year": {"$gte": 2020}})
    assert [source.document for source in answer.sources] == ["report-2024"]
    response = httpx.post(
        f"{platform.url}/v1/query",
        json={"question": "budget", "collection": "filtered", "filter": {"yaer": 2020}},
        timeout=60,
        trust_env=False,
    )
    assert response.status_code == 422
    assert "year" in response.json()["detail"]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("broken.pdf", b"%PDF-1.7 nothing more", "broken-document"),
        ("photo.png", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8, "unsupported-document"),
        ("empty.txt", b"", "empty-document"),
    ],
)
def test_one_bad_document_fails_alone_with_its_reason(
    platform: Platform, client: Client, tmp_path: Path, name: str, content: bytes, code: str
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / name).write_bytes(content)
    (folder / "good.txt").write_text("The good document says that herons nest in May.")
    collection = f"bad-{code}"
    assert name in platform.sluice("ingest", str(folder), "--collection", collection, ends=1)
    job = client.jobs(limit=1)[0]
    assert (job.progress.indexed, job.progress.failed) == (1, 1)
    assert job.errors[0].type.endswith(code)
    assert "May" in client.query("When do herons nest?", collection=collection).answer
