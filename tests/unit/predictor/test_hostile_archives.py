"""Archives of torch.export that try to run code: none of it runs, and the reason names what was found."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from services.predictor.frameworks.base import FrameworkOptions, ModelFiles, NotLoadableError
from services.predictor.frameworks.pytorch.archive import CodeInArchiveError, read_archive
from services.predictor.frameworks.pytorch.expressions import is_guard, is_symbolic
from services.predictor.frameworks.pytorch.framework import PytorchFramework

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
INPUTS = "data/sample_inputs/model.pt"

CPU = torch.device("cpu")

Records = dict[str, bytes]
"""The archive's, by their names without its folder."""


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).reshape(x.shape[0] * 2)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    file = tmp_path_factory.mktemp("archive") / "model.pt2"
    rows = torch.export.Dim("rows", min=1)
    torch.export.save(torch.export.export(Small(), (torch.ones(3, 2),), dynamic_shapes={"x": {0: rows}}), file)
    with zipfile.ZipFile(file) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


class Touch:
    """What makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self._file,)


def write(folder: Path, records: Records) -> Path:
    file = folder / "model.pt2"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in records.items():
            archive.writestr(f"model/{name}", data)
    return file


def changed(records: Records, name: str, change: Callable[[Any], object]) -> Records:
    document = json.loads(records[name])
    change(document)
    return {**records, name: json.dumps(document).encode()}


def graph(records: Records, change: Callable[[Any], object]) -> Records:
    return changed(records, MODEL, lambda document: change(document["graph_module"]["graph"]))


def load(file: Path, *, allow_pickle: bool = False) -> None:
    framework = PytorchFramework()
    framework.prepare()
    files = ModelFiles(name="m", version="1", folder=file.parent, file=file)
    framework.load(files, FrameworkOptions(allow_pickle=allow_pickle)).close()


def code(mark: Path) -> str:
    return f"__import__('pathlib').Path('{mark}').touch()"


def pickled_weight(records: Records, mark: Path) -> Records:
    def change(config: Any) -> None:
        config["config"]["layer.bias"]["use_pickle"] = True

    return {**changed(records, WEIGHTS, change), "data/weights/weight_1": pickle.dumps(Touch(mark))}


def pickled_constant(records: Records, mark: Path) -> Records:
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    added = changed(records, CONSTANTS, lambda config: config["config"].update({"c": entry}))
    return {**added, "data/constants/opaque_obj_0": pickle.dumps(Touch(mark))}


def old_weights(records: Records, mark: Path) -> Records:
    left = {name: data for name, data in records.items() if name != WEIGHTS}
    return {**left, "data/weights/model.pt": pickle.dumps(Touch(mark))}


def library(records: Records, _: Path) -> Records:
    return {**records, "data/aotinductor/model/model.so": b"\x7fELF"}


def size(records: Records, mark: Path) -> Records:
    expression = {"as_expr": {"expr_str": code(mark), "hint": {"as_int": 3}}}
    return graph(records, lambda graph: graph["tensor_values"]["x"]["sizes"].__setitem__(0, expression))


def target(name: str) -> Callable[[Records, Path], Records]:
    return lambda records, mark: graph(
        records,
        lambda graph: graph["nodes"][0].update(
            target=name, inputs=[{"name": "", "arg": {"as_string": f"touch {mark}"}, "kind": 1}]
        ),
    )


def node_name(records: Records, mark: Path) -> Records:
    name = f"a\n    {code(mark)}\n    b"
    return graph(records, lambda graph: graph["nodes"][0].update(name=name))


def condition(records: Records, mark: Path) -> Records:
    return changed(records, MODEL, lambda document: document.update(guards_code=[f"{code(mark)} is None"]))


def container(records: Records, _: Path) -> Records:
    spec = {"type": "builtins.dict", "context": '[{"__enum__": true, "fqn": "antigravity:X", "name": "Y"}]'}
    text = json.dumps([1, {**spec, "children_spec": []}])

    def change(document: Any) -> None:
        document["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = text

    return changed(records, MODEL, change)


def class_of_weight(records: Records, _: Path) -> Records:
    return changed(
        records, WEIGHTS, lambda config: config["config"].update({"__class__.x": config["config"]["layer.bias"]})
    )


HOSTILE = {
    "a pickled weight": pickled_weight,
    "a pickled constant": pickled_constant,
    "weights in one pickle": old_weights,
    "a compiled library": library,
    "a size": size,
    "a function of a module that PyTorch imports": target("torch.os.system"),
    "PyTorch's own loader": target("torch.hub.load"),
    "an operator that maps a file": target("torch.ops.aten.from_file.default"),
    "an operator of a library": target("torch.ops.image.read_file.default"),
    "an overload that is not one": target("torch.ops.aten.linear.__class__"),
    "a name in generated code": node_name,
    "a condition": condition,
    "an enumeration": container,
    "a weight's name": class_of_weight,
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_code_in_an_archive_does_not_run(records: Records, tmp_path: Path, attack: str) -> None:
    mark = tmp_path / "mark"
    file = write(tmp_path, HOSTILE[attack](records, mark))
    with pytest.raises(CodeInArchiveError):
        read_archive(file, CPU)
    with pytest.raises(NotLoadableError, match=r"model\.pt2 is more than tensors .* SLUICE_ALLOW_PICKLE=true"):
        load(file)
    assert not mark.exists()


@pytest.mark.parametrize("attack", ["a pickled weight", "a pickled constant", "a size"])
def test_it_runs_where_pickles_are_allowed(records: Records, tmp_path: Path, attack: str) -> None:
    """So the archives of the other test are what they seem."""
    mark = tmp_path / "mark"
    file = write(tmp_path, HOSTILE[attack](records, mark))
    with pytest.raises(Exception, match=r"."):
        load(file, allow_pickle=True)
    assert mark.exists()


def test_example_inputs_are_not_read(records: Records, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    load(write(tmp_path, {**records, INPUTS: pickle.dumps(Touch(mark))}))
    assert not mark.exists()


def test_an_archive_as_it_was_saved_loads_with_and_without_the_setting(records: Records, tmp_path: Path) -> None:
    file = write(tmp_path, records)
    load(file)
    load(file, allow_pickle=True)


def test_an_archive_that_becomes_large_is_not_unpacked(records: Records, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**records, "data/weights/weight_0": bytes(2**20)}.items():
            archive.writestr(f"model/{name}", data)
    with pytest.raises(NotLoadableError, match="unpacks to more than its size"):
        load(tmp_path / "model.pt2")


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s0', positive=True, integer=True)",
        "Mul(Integer(2), Symbol('s0', integer=True))",
        "Max(Integer(1), Add(Integer(-1), FloorDiv(Symbol('u0'), Integer(2))))",
        "Pow(Symbol('s1'), Integer(2))",
    ],
)
def test_expressions_of_sizes_are_known(text: str) -> None:
    assert is_symbolic(text)


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s0').__class__",
        "Symbol(Symbol('s0'))",
        "Symbol('s0 + f()')",
        "lambdify('s0')",
        "Pow(Integer(9), Integer(999999999))",
        "Pow(Integer(9), Pow(Integer(9), Integer(9)))",
        "[x for x in ()]",
        "Symbol('s0', cls=Dummy)",
        "Integer('7', base=Integer)",
        "sympify('1')",
        "(" * 3000,
    ],
)
def test_other_expressions_are_not(text: str) -> None:
    assert not is_symbolic(text)


def test_conditions_compare_sizes_and_do_nothing_else() -> None:
    assert is_guard("((3*L['x'].size()[0]) % (L['x'].size()[0] // 2)) == 0")
    assert is_guard("L['x']['key'].size()[1] >= 2 and not L['y'].size()[0] == 3")
    assert not is_guard("L['x'].tolist()[0] == 3")
    assert not is_guard("L['x'].size.__func__ == 3")
    assert not is_guard("(lambda: 1)() == 1")
    assert not is_guard("L['x\"'].size()[0] == 1")
    assert not is_guard("max.__self__ == 1")
    assert not is_guard("9**9**9**9 == 1")
