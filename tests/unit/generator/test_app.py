"""A generator that cannot work says so, and does not start."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from services.generator.app import make
from services.generator.settings import GeneratorSettings


def refusal(settings: GeneratorSettings) -> str:
    with pytest.raises(SystemExit) as caught:
        make(settings)
    return str(caught.value)


def test_without_the_wheel_it_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)

    assert "make vllm" in refusal(GeneratorSettings(engine="vllm", vllm_model="tiny"))


def test_vllm_needs_a_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed = ModuleType("vllm")
    installed.__spec__ = ModuleSpec("vllm", None)
    monkeypatch.setitem(sys.modules, "vllm", installed)

    assert "SLUICE_VLLM_MODEL" in refusal(GeneratorSettings(engine="vllm"))
    assert f"no model in {tmp_path}" in refusal(GeneratorSettings(engine="vllm", vllm_model=str(tmp_path)))


def test_a_template_that_cannot_work_is_named(tmp_path: Path) -> None:
    (tmp_path / "answer_user.jinja").write_text("{{ question")

    assert "answer_user.jinja" in refusal(GeneratorSettings(templates=tmp_path))


def test_every_setting_of_vllm_reaches_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_VLLM_ADAPTERS", '{"legal": "/adapters/legal"}')
    monkeypatch.setenv("SLUICE_VLLM_ARGS", '{"max_num_batched_tokens": 4096}')
    config = GeneratorSettings(
        engine="vllm", vllm_model="qwen", vllm_max_num_seqs=7, vllm_kv_cache_gb=0.5, instance="here", log_level="DEBUG"
    ).engine_config

    assert config.adapters == {"legal": "/adapters/legal"}
    assert config.arguments == {"max_num_batched_tokens": 4096}
    assert (config.model, config.max_num_seqs, config.kv_cache_gib) == ("qwen", 7, 0.5)
    assert (config.instance, config.log_level) == ("here", "DEBUG")
