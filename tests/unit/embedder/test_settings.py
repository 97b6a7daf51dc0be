"""What the settings of the stage rerank make of it."""

import pytest

from services.embedder.app import make
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
