"""What the settings of the stage rerank make of it."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from services.embedder.app import make
from services.embedder.model import hardware
from services.embedder.reranking import CrossEncoderConfig, LateInteractionConfig, RemoteApi, RemoteConfig, RerankerName
from services.embedder.settings import EmbedderSettings


def test_late_interaction_needs_no_setting_and_keeps_most_of_the_score_of_retrieval() -> None:
    settings = EmbedderSettings(rerank_cache_mb=1)
    assert settings.reranker_config == LateInteractionConfig(cache_bytes=2**20)
    assert settings.retrieval_weight == 0.8


def test_a_cross_encoder_ranks_by_itself_unless_told_otherwise() -> None:
    settings = EmbedderSettings(reranker=RerankerName.CROSS_ENCODER, rerank_model="folder", rerank_max_tokens=128)
    config = settings.reranker_config
    assert isinstance(config, CrossEncoderConfig)
    assert (config.model, config.max_tokens, settings.retrieval_weight) == ("folder", 128, 0.0)
    assert settings.model_copy(update={"rerank_retrieval_weight": 0.3}).retrieval_weight == 0.3


def test_a_remote_reranker_is_an_address_and_the_form_of_requests() -> None:
    settings = EmbedderSettings(
        reranker=RerankerName.REMOTE, rerank_url="http://127.0.0.1:1/rerank", rerank_api=RemoteApi.TEI
    )
    config = settings.reranker_config
    assert isinstance(config, RemoteConfig)
    assert (config.url, config.api) == ("http://127.0.0.1:1/rerank", RemoteApi.TEI)


@pytest.mark.parametrize(
    ("name", "missing"),
    [(RerankerName.CROSS_ENCODER, "SLUICE_RERANK_MODEL"), (RerankerName.REMOTE, "SLUICE_RERANK_URL")],
)
def test_a_process_that_lacks_a_setting_says_which(name: RerankerName, missing: str) -> None:
    with pytest.raises(SystemExit, match=missing):
        make(EmbedderSettings(reranker=name))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"embedding_backend": "torch"}, "SLUICE_EMBEDDING_BACKEND=torch"),
        ({"device": "cuda"}, "SLUICE_DEVICE=cuda"),
        ({"dtype": "float16"}, "SLUICE_DTYPE=float16"),
        ({"reranker": "cross-encoder", "rerank_model": "folder"}, "SLUICE_RERANKER=cross-encoder"),
    ],
)
def test_a_setting_that_needs_pytorch_is_refused_without_it_with_what_to_run(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], said: str
) -> None:
    without_torch(monkeypatch)

    with pytest.raises(SystemExit, match=f"{said} needs PyTorch.*make torch"):
        make(EmbedderSettings(**settings))


def test_a_model_that_needs_pytorch_is_refused_without_it_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_torch(monkeypatch)
    (tmp_path / "config.json").write_text('{"model_type": "xlm-roberta"}')

    with pytest.raises(SystemExit, match=r"the embedding model .*model_type.*make torch"):
        make(EmbedderSettings(embedding_model=str(tmp_path)))


def test_the_default_needs_no_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    without_torch(monkeypatch)

    make(EmbedderSettings())


def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(hardware, "find_spec", lambda name: None if name == "torch" else real(name))
