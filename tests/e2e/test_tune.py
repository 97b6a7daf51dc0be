"""Tuning through the front door: from the command line to a version, through the death of the scheduler."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from sluice import Client
from tests.harness.platform import Platform, eventually
from tests.harness.tuning import PARAPHRASED, TEXTS

pytestmark = pytest.mark.timeout(600)

SEARCH = ("--trials", "5", "--no-rerank", "--seed", "3")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, PARAPHRASED)))
    return path


def by_words(client: Client, name: str) -> str:
    """A collection that is searched by words alone."""
    client.create_collection(name, retrieval={"mode": "text"})
    assert client.wait(client.add_texts(name, TEXTS).id).state == "succeeded"
    return name


def test_the_command_line_tunes_and_says_how_to_adopt_what_is_better(
    platform: Platform, client: Client, questions: Path, tmp_path: Path
) -> None:
    by_words(client, "tuned")
    page = tmp_path / "report.html"
    said = platform.sluice("tune", str(questions), "-c", "tuned", *SEARCH, "-o", str(page))
    assert "The best trial is better than the default: nDCG@10 +" in said
    assert "sluice collections switch tuned v2" in said
    assert "Tuning of tuned, version v1" in page.read_text()
    assert client.collection("tuned").version == "v1"
    platform.sluice("collections", "switch", "tuned", "v2")
    changed = client.collection("tuned")
    assert changed.version == "v2"
    assert changed.versions[1].retrieval.mode in ("hybrid", "vector")
    assert (
        client.query("Which story has a dog by the chapel?", collection="tuned").sources[0].document == "hound-chapel"
    )


def test_a_search_goes_on_with_its_trials_after_the_scheduler_and_the_broker_were_killed(
    platform: Platform, client: Client, questions: Path
) -> None:
    by_words(client, "killed")
    client.put_artifact("set/questions.jsonl", questions)
    whole = client.wait(client.tune("killed", "set/questions.jsonl", trials=5, seed=3, rerank=False).id)
    job = client.tune("killed", "set/questions.jsonl", trials=5, seed=3, rerank=False, version="again", adopt=True)
    eventually(lambda: client.job(job.id).progress.done >= 2, "two trials")
    platform.signal("scheduler", signal.SIGKILL)
    eventually(lambda: client.job(job.id).progress.done >= 3, "a third trial")
    platform.signal("nats", signal.SIGKILL)
    ended = client.wait(job.id)
    assert (whole.state, ended.state) == ("succeeded", "succeeded"), (whole.error, ended.error)
    assert [one["setting"] for one in _trials(client, ended.id)] == [
        one["setting"] for one in _trials(client, whole.id)
    ]
    scores = [[one["score"] for one in _trials(client, job)] for job in (ended.id, whole.id)]
    assert scores[0] == pytest.approx(scores[1], abs=0.02), "but for the last bits of vectors"
    assert (ended.outputs["better"], ended.outputs["version"], ended.outputs["live"]) == (True, "again", True)
    assert client.collection("killed").version == "again"
    for run in (whole, ended):
        score, *_ = client.run_metrics(run.id)
        assert (score.name, score.steps) == ("ndcg_at_10", (1, 2, 3, 4, 5)), "each trial is logged once"
        assert list(score.values) == [one["score"] for one in _trials(client, run.id)]
    compared = client.compare_runs(whole.id, ended.id)
    assert compared.parameters == {"adopt": (False, True), "version": (None, "again")}
    assert compared.runs[1].data.version == "v1"


def _trials(client: Client, job: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in client.artifact(f"{job}/trials.jsonl").splitlines()]
