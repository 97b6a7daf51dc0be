"""Evaluations through the front door: with answers, and from the command line to a switch."""

import json
from pathlib import Path
from typing import Any

from sluice import Client
from tests.harness.platform import Platform

QUESTIONS = [
    {"question": "Who built the blue lamp?", "sources": ["library/lamps/blue.md"], "answer": "Ottilie Brandt in 1911"},
    {"question": "What is the red lamp lit with?", "sources": ["library/lamps/red.txt"], "answer": "rape-seed oil"},
    {"question": "When does the ferry to Rauma leave?", "sources": ["library/ferries.html"]},
    {"question": "Who is the captain?", "sources": ["library/crew.json"], "answer": "Ilse Varga"},
]


def test_answers_are_judged_as_users_get_them(platform: Platform, client: Client, documents_folder: Path) -> None:
    platform.sluice("ingest", str(documents_folder), "--collection", "judged", "--json")
    client.put_artifact("judged/questions.jsonl", "\n".join(map(json.dumps, QUESTIONS)).encode())
    spec = {"kind": "evaluate", "collection": "judged", "input": "judged/questions.jsonl", "answers": True}
    job = client.wait(client.submit_job(spec).id, timeout=200)
    assert job.state == "succeeded", job.error
    outputs: dict[str, Any] = dict(job.outputs)
    assert (outputs["questions"], outputs["failed"]) == (4, 0)
    assert outputs["recall_at_1"] == outputs["mrr"] == 1.0
    assert outputs["answer_f1"] > 0.2
    assert outputs["citation_precision"] > 0.5
    report = json.loads(client.artifact(f"{job.id}/report.json"))
    assert "Ottilie Brandt" in report["questions"][0]["answer"]
    assert client.artifact(f"{job.id}/report.svg").startswith(b"<svg")


def test_the_command_line_evaluates_compares_and_writes_the_report(
    platform: Platform, documents_folder: Path, tmp_path: Path
) -> None:
    platform.sluice("ingest", str(documents_folder), "--collection", "compared", "--json")
    questions, page = tmp_path / "questions.jsonl", tmp_path / "report.html"
    unanswerable = {"question": "What does a ticket to Mars cost?", "answerable": False}
    questions.write_text("\n".join(map(json.dumps, [*QUESTIONS, unanswerable])))
    command = ("evaluate", str(questions), "--collection", "compared", "--answers")
    first = json.loads(platform.sluice(*command, "--json"))
    assert first["intervals"]["mrr"]["low"] <= first["metrics"]["mrr"] <= first["intervals"]["mrr"]["high"]
    assert 0 < first["metrics"]["answer_similarity"] <= 1
    assert first["metrics"]["false_declined"] == 0
    assert {"false_answered"} <= set(first["metrics"])
    told = platform.sluice(*command, "--baseline", first["job"], "--output", str(page))
    assert "0 questions are better, 0 are worse." in told
    assert "Evaluation of compared" in page.read_text()


def test_a_version_is_built_listed_and_switched_to_from_the_command_line(
    platform: Platform, client: Client, documents_folder: Path
) -> None:
    platform.sluice("ingest", str(documents_folder), "--collection", "lines", "--json")
    built = ("collections", "reindex", "lines", "--chunk-tokens", "64", "--version", "small", "--no-switch")
    assert "succeeded" in platform.sluice(*built)
    listed = json.loads(platform.sluice("collections", "versions", "lines", "--json"))
    assert [(version["name"], version["state"]) for version in listed] == [("v1", "live"), ("small", "ready")]
    assert listed[1]["chunk_tokens"] == 64
    platform.sluice("collections", "switch", "lines", "small")
    table = platform.sluice("collections", "versions", "lines")
    assert "small" in table
    assert client.collection("lines").version == "small"
    platform.sluice("collections", "switch", "lines")
    assert client.collection("lines").version == "v1"


def test_without_a_language_model_the_command_says_what_is_missing(platform: Platform, tmp_path: Path) -> None:
    command = ("evaluate", str(tmp_path / "new.jsonl"))
    for more, said in (((), "there is no file"), (("--generate", "3"), "no language model is there")):
        assert said in " ".join(platform.sluice(*command, *more, ends=2).replace("│", " ").split())
