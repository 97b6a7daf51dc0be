"""Distillation and a sweep on a whole platform, by the command line."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice import Client
from tests.harness.pages import check_page
from tests.harness.platform import Platform
from tests.harness.training import ASKED, make_bert, parquet, ruled_rows

pytestmark = pytest.mark.timeout(900)

TINY = ("--set", "negatives=2", "--set", "epochs=1", "--set", "validation=0.2", "--set", "eval_steps=6")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("sweep")
    with Platform(folder) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


def test_a_reranker_teaches_embedders_of_which_the_best_is_kept(
    platform: Platform, client: Client, tmp_path: Path
) -> None:
    for name, lines in (("train", ruled_rows()), ("test", ruled_rows(ASKED[5:]))):
        file = tmp_path / f"{name}.parquet"
        file.write_bytes(parquet(lines))
        client.put_artifact(f"ruled/{name}.parquet", file)
    base = client.import_model(make_bert(tmp_path / "tiny"), kind="embedder").name
    shown = platform.sluice(
        "train",
        "ruled",
        "-t",
        "reranker",
        "--base",
        base,
        "--steps",
        "60",
        "--lr",
        "0.002",
        "--json",
        "--set",
        "negatives=2",
    )
    teacher = json.loads(shown)["outputs"]["model"]

    refused = platform.sluice("train", "ruled", "--base", base, "--teacher", base, "--steps", "1", ends=1)
    assert "is of the kind 'embedder', and a `teacher` is a reranker" in refused

    fixed = (*TINY, "--set", "learning_rate=1e-7", "--set", "steps=12")
    sweep = ("sweep", "ruled", "--base", base, "--teacher", teacher, *fixed, "--trials", "3")
    report = tmp_path / "report.html"
    searched = ("--lr", "0.002..0.01", "--loss", "kl-divergence,margin-mse")
    said = platform.sluice(*sweep, *searched, "--output", str(report))
    assert f"Report: {report}" in said
    check_page(report.read_text())
    assert "validation rows" in said
    (kept,) = [model for model in client.registered_models() if model.job and model.kind == "embedder"]
    assert f"Model {kept.name}, of the job {kept.job}. 3 trials, of which 0 failed" in said
    assert "of the sweep" in kept.description
    job = client.job(kept.job)
    assert (job.kind, job.state) == ("train", "succeeded")
    assert "learning_rate" in platform.sluice("runs", "show", kept.job)


def test_a_sweep_of_nothing_or_of_what_cannot_be_is_refused(platform: Platform) -> None:
    assert "at least one hyper-parameter" in platform.sluice("sweep", "ruled", ends=2)
    assert "is not LOW..HIGH" in platform.sluice("sweep", "ruled", "--lr", "1e-5", ends=2)
    assert "needs a 'teacher'" in platform.sluice("sweep", "ruled", "--loss", "margin-mse", ends=1)
