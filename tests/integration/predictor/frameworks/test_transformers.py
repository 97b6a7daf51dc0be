"""Models of transformers: the tensors of each task, and folders that are refused."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from pydantic import JsonValue
from transformers import AutoTokenizer

from services.predictor.frameworks.base import FrameworkOptions, ModelFiles, NotLoadableError
from services.predictor.frameworks.registry import find_file
from services.predictor.serving.arrays import to_array, to_tensor
from services.predictor.serving.served_model import ModelLimits, ServedModel
from shared.contracts.envelope import Lane
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import Datatype, InferRequest, TensorSpec
from tests.harness.transformers_models import POSITIONS, save_model

pytestmark = pytest.mark.anyio

TEXT = TensorSpec(name="text", datatype=Datatype.BYTES, shape=(-1,))
LABELS = ("sport", "news", "weather")
ENTAILMENT = ("contradiction", "neutral", "entailment")


def load(folder: Path, parameters: Mapping[str, JsonValue] | None = None) -> Any:
    framework, file = find_file(folder, None, "")
    assert framework.name == "transformers"
    framework.prepare()
    files = ModelFiles(name="m", version="1", folder=folder, file=file, parameters=parameters or {})
    return framework.load(files, FrameworkOptions(threads=1))


@asynccontextmanager
async def serving(folder: Path, parameters: Mapping[str, JsonValue] | None = None) -> AsyncIterator[ServedModel]:
    with ThreadPoolExecutor(1) as threads:
        limits = ModelLimits(batch_rows=4, waiting=100)
        async with ServedModel("m", load(folder, parameters), limits, threads).running() as served:
            yield served
            await served.close()


async def ask(served: ServedModel, **texts: list[str]) -> dict[str, Any]:
    """The outputs, texts as texts."""
    tensors = tuple(to_tensor(name, np.array(each, dtype=object)) for name, each in texts.items())
    made = await served.infer(InferRequest(inputs=tensors), Lane.INTERACTIVE)
    arrays = {tensor.name: to_array(tensor) for tensor in made}
    return {
        name: np.vectorize(bytes.decode, otypes=[object])(array) if array.dtype.kind == "O" else array
        for name, array in arrays.items()
    }


async def refused(served: ServedModel, **texts: list[str]) -> str:
    with pytest.raises(Problem) as raised:
        await ask(served, **texts)
    assert raised.value.kind is ProblemType.INVALID_REQUEST, raised.value
    return raised.value.detail


async def test_text_classification_gives_the_best_labels_with_their_scores(tmp_path: Path) -> None:
    model = save_model(tmp_path, "BertForSequenceClassification", LABELS)
    texts = ["good day", "bad night in paris", "news", "sport", "a day ."]
    encoded = AutoTokenizer.from_pretrained(tmp_path)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**encoded).logits.softmax(1).numpy()
    async with serving(tmp_path, {"top_k": 2}) as served:
        assert served.signature.inputs == (TEXT,)
        assert [(each.name, each.shape) for each in served.signature.outputs] == [
            ("label", (-1, 2)),
            ("score", (-1, 2)),
        ]
        # Five texts are two calls of at most four.
        made = await ask(served, text=texts)
        together = await asyncio.gather(*(ask(served, text=[text]) for text in texts))
    order = np.argsort(-expected, axis=1)[:, :2]
    np.testing.assert_array_equal(made["label"], np.array(LABELS, dtype=object)[order])
    np.testing.assert_allclose(made["score"], np.take_along_axis(expected, order, 1), rtol=1e-4)
    np.testing.assert_array_equal(np.concatenate([each["label"] for each in together]), made["label"])


@pytest.mark.parametrize(("top_k", "count"), [(None, 1), (0, 3), (50, 3)])
def test_as_many_labels_come_as_the_configuration_says(tmp_path: Path, top_k: int | None, count: int) -> None:
    save_model(tmp_path, "BertForSequenceClassification", LABELS)
    assert load(tmp_path, {"top_k": top_k}).signature.outputs[1].shape == (-1, count)


async def test_token_classification_gives_the_entities_of_a_text_as_json(tmp_path: Path) -> None:
    save_model(tmp_path, "BertForTokenClassification", ("B-LOC", "B-PER"))
    async with serving(tmp_path) as served:
        made = await ask(served, text=["paris is good", "", "london"])
    first, empty, third = map(json.loads, made["entities"])
    assert [each["word"] for each in first] == ["paris", "is", "good"]
    assert {each["entity"] for each in (*first, *third)} <= {"LOC", "PER"}
    assert (third[0]["start"], third[0]["end"]) == (0, 6)
    assert 0 < third[0]["score"] <= 1
    assert empty == []


async def test_zero_shot_classification_ranks_the_labels_of_the_request(tmp_path: Path) -> None:
    save_model(tmp_path, "BertForSequenceClassification", ENTAILMENT)
    async with serving(tmp_path, {"task": "zero-shot-classification"}) as served:
        made = await ask(served, text=["good day", "bad"], labels=["sport", "news", "a, day"])
        assert made["label"].shape == made["score"].shape == (2, 3)
        assert [set(each) for each in made["label"]] == [{"sport", "news", "a, day"}] * 2
        np.testing.assert_allclose(made["score"].sum(1), [1, 1], rtol=1e-5)
        assert np.all(np.diff(made["score"], axis=1) <= 0)
        assert "1 to 100 labels" in await refused(served, text=["good"], labels=[])
        assert "'labels' is missing" in await refused(served, text=["good"])


async def test_fill_mask_gives_the_best_words_and_the_texts_with_them(tmp_path: Path) -> None:
    save_model(tmp_path, "BertForMaskedLM")
    async with serving(tmp_path, {"top_k": 3}) as served:
        made = await ask(served, text=["good [MASK]", "[MASK] is bad"])
        alone = await ask(served, text=["good [MASK]"])
        assert "[MASK] 0 times" in await refused(served, text=["good"])
        assert "[MASK] 2 times" in await refused(served, text=["[MASK] [MASK]"])
        assert "No mask_token" in await refused(served, text=["good " * 2 * POSITIONS + "[MASK]"])
    assert made["token"].shape == made["score"].shape == (2, 3)
    np.testing.assert_array_equal(alone["token"], made["token"][:1])
    assert all(made["token"][1][0] in sequence for sequence in made["sequence"][1][:1])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
async def test_feature_extraction_gives_a_vector_for_each_text(tmp_path: Path, pooling: str) -> None:
    model = save_model(tmp_path, "BertModel")
    encoded = AutoTokenizer.from_pretrained(tmp_path)(["good day"], return_tensors="pt")
    with torch.no_grad():
        states = model(**encoded).last_hidden_state[0]
    async with serving(tmp_path, {"pooling": pooling}) as served:
        made = await ask(served, text=["good day", "a long text in paris"])
    assert made["embedding"].shape == (2, 16)
    expected = states[0] if pooling == "cls" else states.mean(0)
    np.testing.assert_allclose(made["embedding"][0], expected, rtol=1e-3, atol=1e-4)


async def test_text_to_text_writes_a_text_for_each(tmp_path: Path) -> None:
    model = save_model(tmp_path, "T5ForConditionalGeneration")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    with torch.no_grad():
        ids = model.generate(**tokenizer(["good day"], return_tensors="pt"), max_new_tokens=5)
    async with serving(tmp_path, {"task": "summarization", "max_new_tokens": 5}) as served:
        made = await ask(served, text=["good day"])
    assert made["generated_text"].tolist() == tokenizer.batch_decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("BertForSequenceClassification", "good " * 500),
        ("BertForTokenClassification", "good " * 500),
        ("BertModel", "good " * 500),
        ("BertForMaskedLM", "[MASK] " + "good " * 500),
        ("BertForSequenceClassification", ""),
    ],
)
async def test_a_text_of_any_length_has_an_answer(tmp_path: Path, kind: str, text: str) -> None:
    save_model(tmp_path, kind)
    async with serving(tmp_path) as served:
        assert all(len(array) == 2 for array in (await ask(served, text=[text, text])).values())


async def test_what_is_not_a_text_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path, "BertModel")
    async with serving(tmp_path) as served:
        bad = to_tensor("text", np.array([b"\xff"], dtype=object))
        with pytest.raises(Problem, match="is not UTF-8"):
            await served.infer(InferRequest(inputs=(bad,)), Lane.INTERACTIVE)
        assert "one text at least" in await refused(served, text=[])


async def test_a_model_computes_in_the_precision_that_is_asked_for(tmp_path: Path) -> None:
    save_model(tmp_path, "BertModel")
    async with serving(tmp_path) as exact, serving(tmp_path, {"precision": "bf16"}) as rounded:
        one, other = [(await ask(each, text=["good day"]))["embedding"] for each in (exact, rounded)]
    assert not np.array_equal(one, other)
    np.testing.assert_allclose(one, other, atol=0.1)


def change(file: Path, **members: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **members}))


def test_folders_with_code_or_pickles_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path, "BertModel")
    mark = tmp_path / "mark"
    (tmp_path / "custom.py").write_text(f"open({str(mark)!r}, 'w')\n")
    config, tokenizer = tmp_path / "config.json", tmp_path / "tokenizer_config.json"
    kept = config.read_text(), tokenizer.read_text()
    for file, members, reason in (
        (config, {"auto_map": {"AutoModel": "custom.Model"}}, "names Python code"),
        (tokenizer, {"auto_map": {"AutoTokenizer": ["custom.Tokenizer", None]}}, "names Python code"),
        (config, {"custom_pipelines": {"mine": {"impl": "custom.Mine"}}}, "names Python code"),
        (config, {"quantization_config": {"quant_method": "bitsandbytes"}}, "package that quantizes"),
        (config, {"attn_implementation": "someone/kernels"}, "code to be downloaded"),
        (config, {"text_config": {"_attn_implementation": {"": "someone/kernels"}}}, "code to be downloaded"),
        (config, {"architectures": ["BertForCausalLM"]}, "name its task"),
    ):
        change(file, **members)
        with pytest.raises(NotLoadableError, match=reason):
            load(tmp_path)
        config.write_text(kept[0])
        tokenizer.write_text(kept[1])
    load(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(NotLoadableError, match="no weights in safetensors"):
        load(tmp_path)
    assert not mark.exists()


def test_a_model_reads_no_file_that_is_not_its_own(tmp_path: Path) -> None:
    """Its words would come back as the answers of a model that fills masks."""
    folder, secret = tmp_path / "model", tmp_path / "secret.txt"
    save_model(folder, "BertForMaskedLM")
    secret.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\npassword\n")
    (folder / "tokenizer.json").unlink()
    tokenizer, tokens = folder / "tokenizer_config.json", folder / "special_tokens_map.json"
    tokens.write_text("{}")
    kept = tokenizer.read_text()
    change(tokenizer, tokenizer_class="BertTokenizer", special_tokens_map_file="/root/.cache/huggingface/tokens.json")
    load(folder)
    for file, members in (
        (tokenizer, {"vocab": str(secret)}),
        (tokenizer, {"vocab": f"{folder}/../secret.txt"}),
        (tokenizer, {"gguf_file": str(secret)}),
        (tokenizer, {"init_kwargs": {"vocab": [str(secret)]}}),
        (tokens, {"vocab": str(secret)}),
    ):
        change(file, **members)
        with pytest.raises(NotLoadableError, match="names a file that is not in the model's folder"):
            load(folder)
        tokenizer.write_text(kept)
        tokens.write_text("{}")


@pytest.mark.parametrize(
    "name", ["../victim/model.safetensors", "{folder}/../victim/model.safetensors", "weights.bin", "a/b.safetensors"]
)
def test_an_index_names_safetensors_beside_it(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    for each in ("victim", "model"):
        save_model(tmp_path / each, "BertModel")
    weights = folder / "model.safetensors"
    with safetensors.safe_open(weights, "np") as opened:
        names = list(opened.keys())
    weights.rename(folder / "part.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, "part.safetensors")}))
    load(folder)
    index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, name.format(folder=folder))}))
    with pytest.raises(NotLoadableError, match="not a file of safetensors beside it"):
        load(folder)


def test_a_model_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    """Random weights would answer in their place."""
    save_model(tmp_path, "BertModel")
    change(tmp_path / "config.json", architectures=["BertForSequenceClassification"])
    with pytest.raises(
        NotLoadableError, match=r"no weights classifier\.bias, classifier\.weight, which the task text-"
    ):
        load(tmp_path)
    load(tmp_path, {"task": "feature-extraction"})
    change(tmp_path / "config.json", num_hidden_layers=2)
    with pytest.raises(NotLoadableError, match=r"no weights .* and \d+ more, which the task feature-extraction needs"):
        load(tmp_path, {"task": "feature-extraction"})


def test_the_pooler_is_not_needed_where_tokens_are_pooled_here(tmp_path: Path) -> None:
    save_model(tmp_path, "BertForMaskedLM")
    load(tmp_path, {"task": "feature-extraction"})


def test_wrong_parameters_are_named(tmp_path: Path) -> None:
    save_model(tmp_path, "BertModel")
    with pytest.raises(NotLoadableError, match="the task 'dance' is not served; there are text-classification"):
        load(tmp_path, {"task": "dance"})
    with pytest.raises(NotLoadableError, match=r"top_k: .*greater than or equal to 0"):
        load(tmp_path, {"top_k": -1})
    with pytest.raises(NotLoadableError, match="topk: Extra inputs"):
        load(tmp_path, {"topk": 1})
