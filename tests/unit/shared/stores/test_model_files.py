"""What may be a file of a model."""

import json
import pickle
import zipfile
from pathlib import Path

import pytest

from shared.contracts.models import ModelKind, model_hash
from shared.contracts.problems import Problem, ProblemType
from shared.stores.model_files import check_kind, check_path, read_files, verify_file


def weights(numbers: bytes = b"\0\0\0\0") -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + numbers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "model.safetensors").write_bytes(weights())
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling": "mean"}')
    return tmp_path


def refusal(folder: Path) -> str:
    with pytest.raises(Problem) as caught:
        read_files(folder)
    assert caught.value.kind is ProblemType.INVALID_REQUEST
    return caught.value.detail


def test_a_models_hash_follows_from_paths_and_contents_alone(folder: Path) -> None:
    first = read_files(folder)
    assert [file.path for file in first] == ["1_Pooling/config.json", "config.json", "model.safetensors"]
    assert model_hash(read_files(folder)) == model_hash(first[::-1]) == model_hash(first)
    (folder / "model.safetensors").write_bytes(weights(b"\0\0\0\1"))
    assert model_hash(read_files(folder)) != model_hash(first)


def test_hidden_files_are_left_out(folder: Path) -> None:
    before = read_files(folder)
    (folder / ".git").mkdir()
    (folder / ".git" / "hook.py").write_text("raise SystemExit")
    assert read_files(folder) == before


@pytest.mark.parametrize("name", ["weights.bin", "model.pt", "model.pkl", "modeling.py", "tokenizer"])
def test_a_file_that_may_run_code_is_refused_by_its_name(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"harmless")
    assert f"'{name}' is not a file of a model here" in refusal(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.txt", "spiece.model"])
def test_a_pickle_is_refused_whatever_its_name(folder: Path, name: str) -> None:
    (folder / name).write_bytes(pickle.dumps({"weights": [1.0]}))
    assert "is a pickle or an archive" in refusal(folder)


def test_an_archive_is_refused_whatever_its_name(folder: Path) -> None:
    with zipfile.ZipFile(folder / "vocab.txt", "w") as archive:
        archive.writestr("data.pkl", "x")
    assert "is a pickle or an archive" in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"text that is longer", (2**62).to_bytes(8, "little"), weights()[:20]])
def test_what_does_not_begin_as_safetensors_does_is_refused(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    assert "'model.safetensors' is not a safetensors file" in refusal(folder)


def test_a_model_with_python_code_of_its_own_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text('{"auto_map": {"AutoModel": "modeling.Model"}}')
    assert "Python code of the model's own" in refusal(folder)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("config.json", '{"text_config": {"auto_map": {"AutoModel": "modeling.Model"}}}'),
        ("modules.json", '[{"idx": 0, "type": "joblib.numpy_pickle"}]'),
        ("router_config.json", '{"types": {"query": "os.system"}}'),
        ("config.json", '{"sentence_transformers": {"activation_fn": "torch._C._crash_if_csrc_asan"}}'),
        ("2_Dense/config.json", '{"activation_function": "os.abort"}'),
    ],
)
def test_a_configuration_that_names_code_anywhere_is_refused(folder: Path, path: str, content: str) -> None:
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_text(content)
    assert "Python code" in refusal(folder)


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("tokenizer_config.json", '{"vocab": "/etc/passwd"}', "names a file to be read ('vocab')"),
        ("special_tokens_map.json", '{"gguf_file": "a.gguf"}', "names a file to be read ('gguf_file')"),
        ("sentence_bert_config.json", '{"tokenizer_name_or_path": "../x"}', "names a file to be read"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "../x/model.safetensors"}}', "file beside it"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "/x/model.safetensors"}}', "file beside it"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "notes.txt"}}', "file beside it"),
        ("model.safetensors.index.json", '{"weight_map": {"a": 3}}', "file beside it"),
        ("modules.json", '[{"type": "sentence_transformers.models.Pooling", "path": "../1_Pooling"}]', "own"),
        ("modules.json", '[{"type": "sentence_transformers.models.Transformer", "path": "/models/x"}]', "own"),
        ("modules.json", r'[{"type": "sentence_transformers.models.Dense", "path": "a\\..\\b"}]', "own"),
        ("router_config.json", '{"types": {"a/../../b": "sentence_transformers.models.Dense"}}', "own"),
    ],
)
def test_a_configuration_that_names_files_which_are_not_the_model_s_is_refused(
    folder: Path, path: str, content: str, said: str
) -> None:
    (folder / path).write_text(content)
    assert said in refusal(folder)


def test_what_libraries_themselves_write_into_configurations_is_taken(folder: Path) -> None:
    (folder / "modules.json").write_text(
        '[{"type": "sentence_transformers.models.Transformer", "path": ""},'
        ' {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},'
        ' {"type": "sentence_transformers.models.Dense", "path": "2_Dense/"}]'
    )
    (folder / "config.json").write_text(
        '{"activation_function": "gelu_new", "auto_map": null, "rope_scaling": {"type": "v1.linear"},'
        ' "sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}'
    )
    (folder / "tokenizer_config.json").write_text(
        '{"special_tokens_map_file": "/root/.cache/tokens.json", "name_or_path": "/models/mine", "vocab": {"a": 0}}'
    )
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model.safetensors"}}')
    assert len(read_files(folder)) == 6


def test_a_configuration_is_parsed_only_where_it_is_small(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("[" + "[]," * 3 * 2**20 + "[]]")
    assert len(read_files(folder)) == 4
    (folder / "tokenizer.json").rename(folder / "other.json")
    assert "too many for a configuration" in refusal(folder)


@pytest.mark.parametrize(
    "offsets",
    [[[0, 8]], [[0, 2]], [[0, 4], [0, 4]], [[0, 2], [3, 4]], [[-1, 4]], [[0, 2**70]], [[0]], ["ab"], [[0.0, 4.0]], []],
)
def test_weights_whose_header_lies_about_its_tensors_are_refused(folder: Path, offsets: list[object]) -> None:
    header = json.dumps({f"w{index}": {"data_offsets": span} for index, span in enumerate(offsets)}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0\0\0")
    assert "is not a safetensors file" in refusal(folder)


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": "F32", "shape": [2]},
        {"dtype": "F16", "shape": [2**40, 2**40]},
        {"dtype": "F32", "shape": [-1, -1]},
        {"dtype": "F32", "shape": [1.0]},
        {"dtype": "F32", "shape": [True]},
        {"dtype": "F32", "shape": [1] * 65},
        {"dtype": "F32", "shape": [2**63, 0]},
        {"dtype": "F32"},
        {"shape": [1]},
        {"dtype": ["F32"], "shape": [1]},
    ],
)
def test_weights_whose_types_and_shapes_do_not_fit_their_bytes_are_refused(
    folder: Path, tensor: dict[str, object]
) -> None:
    header = json.dumps({"w": {**tensor, "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0\0\0")
    assert "is not a safetensors file" in refusal(folder)


def test_a_type_of_numbers_that_is_not_known_here_is_not_measured(folder: Path) -> None:
    header = json.dumps({"w": {"dtype": "F4", "shape": [8], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0\0\0")
    assert read_files(folder)


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "no weights" in refusal(folder)


def test_a_symbolic_link_is_refused(folder: Path) -> None:
    (folder / "vocab.txt").symlink_to("/etc/hostname")
    assert "symbolic link" in refusal(folder)


def test_broken_json_and_text_are_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    assert "'config.json' is not JSON" in refusal(folder)
    (folder / "config.json").write_bytes(b"\xff\xfe")
    assert "'config.json' is not JSON" in refusal(folder)


@pytest.mark.parametrize("path", ["/etc/passwd", "../up", "a/../b", "a//b", "", ".hidden", "a\\b", "ä", "a" * 201])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(Problem, match="not a path within a model"):
        check_path(path)


def test_a_changed_file_is_refused_by_its_hash(folder: Path) -> None:
    (stored,) = (file for file in read_files(folder) if file.path == "model.safetensors")
    verify_file(folder / stored.path, stored)
    (folder / stored.path).write_bytes(weights(b"\0\0\0\1"))
    with pytest.raises(Problem, match="was changed or damaged"):
        verify_file(folder / stored.path, stored)


@pytest.mark.parametrize("path", ["adapter_config.json", "0_Transformer/adapter_config.json"])
def test_an_adapter_is_refused_as_another_kind(folder: Path, path: str) -> None:
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_text('{"base_model_name_or_path": "/models/of-another"}')
    files = read_files(folder)
    check_kind(files, ModelKind.ADAPTER)
    for kind in (ModelKind.EMBEDDER, ModelKind.RERANKER):
        with pytest.raises(Problem, match="an adapter of another model"):
            check_kind(files, kind)
