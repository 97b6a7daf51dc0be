"""A data set through the front door: from the command line to files, through the death of the scheduler."""

import json
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sluice import Client
from tests.harness.platform import Platform, eventually
from tests.harness.tuning import LITERAL, TEXTS

pytestmark = pytest.mark.timeout(600)


def test_the_command_line_makes_a_data_set_and_a_killed_scheduler_goes_on_with_one(
    platform: Platform, client: Client, tmp_path: Path
) -> None:
    client.create_collection("judged")
    assert client.wait(client.add_texts("judged", TEXTS).id).state == "succeeded"
    questions = tmp_path / "questions.jsonl"
    questions.write_text("\n".join(map(json.dumps, LITERAL)))
    folder = tmp_path / "data"
    told = platform.sluice("dataset", "judged", "-q", str(questions), "--no-feedback", "-o", str(folder))
    assert "0 preferences, from corrections." in told
    files = ("answers", "preferences", "test", "test_answers", "test_preferences", "train")
    names = sorted(["dataset.json", "questions.jsonl", "report.html", *(f"{name}.parquet" for name in files)])
    assert sorted(path.name for path in folder.iterdir()) == names
    train, test = [pq.read_table(folder / f"{side}.parquet").to_pylist() for side in ("train", "test")]
    assert len(train) + len(test) == 64

    client.put_artifact("sets/judged.jsonl", questions)
    job = client.make_dataset("judged", ["sets/judged.jsonl"])
    eventually(lambda: client.job(job.id).state != "queued", "the job began")
    platform.signal("scheduler", signal.SIGKILL)
    ended = client.wait(job.id)
    assert ended.state == "succeeded", ended.error
    found = client.dataset(job.id)
    assert (found.train.rows, found.test.rows) == (len(train), len(test))
    assert found.feedback is not None
    assert found.feedback["records"] == 0
