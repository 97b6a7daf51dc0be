"""Archives of `torch.export`, read without running what is in them.

`torch.export.load` unpickles example inputs, constants and some weights, loads compiled libraries, evaluates
expressions, and takes for an operator whatever a dotted name leads to. So an archive is a program, unless it is read
with care: here its tensors are taken as raw bytes, nothing is unpickled, and its graph reaches PyTorch only with
operators, names and expressions of known forms. Whatever else is in it raises CodeInArchiveError.
"""

import json
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from services.predictor.frameworks.base import NotLoadableError
from services.predictor.frameworks.pytorch.expressions import is_guard, is_name, is_symbolic

__all__ = ["CodeInArchiveError", "one_at_a_time", "read_archive"]

MODEL: Final = "models/model.json"
WEIGHTS: Final = "data/weights/"
CONSTANTS: Final = "data/constants/"
CONFIGS: Final = {WEIGHTS: "model_weights_config.json", CONSTANTS: "model_constants_config.json"}
LIBRARIES: Final = "data/aotinductor/"

PATH: Final = re.compile(r"(weight|tensor)_[0-9]{1,9}")
SYMBOL_OPERATORS: Final = re.compile(
    r"_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|getitem)"
    r"|torch\.sym_(float|int|ite|max|min|not|sum)|math\.(trunc|ceil|floor)|torch\._sym_sqrt"
)
OPERATOR: Final = re.compile(r"torch\.ops\.(aten|prims)\.([A-Za-z][A-Za-z0-9_]*|_[A-Za-z][A-Za-z0-9_]*)\.(\w{1,80})")
WITH_GRAPHS: Final = re.compile(r"torch\.ops\.higher_order\.(cond|wrap_with_set_grad_enabled|wrap_with_autocast)")

CONTAINERS: Final = frozenset({"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})

FREE_TEXT: Final = frozenset({"as_string", "as_strings"})
"""Arguments of operators. They reach them as they are."""

_loading = threading.Lock()


class CodeInArchiveError(NotLoadableError):
    """An archive that holds more than tensors and operators. The message says what."""


def one_at_a_time() -> threading.Lock:
    """PyTorch reads one archive at a time."""
    return _loading


def read_archive(file: Path, device: Any) -> Any:
    """The exported program of an archive, on a device. Raises CodeInArchiveError, or NotLoadableError for a damaged
    one."""
    import torch
    from torch._export.serde import schema, serialize
    from torch.utils import _pytree as pytree

    reader = torch._C.PyTorchFileReader(str(file))
    records = frozenset(reader.get_all_records())
    _check_records(file, reader, records)
    document = _json(reader, MODEL)
    try:
        cleaned = _program(document, {"type": device.type, "index": device.index})
        tensors = {folder: _tensors(reader, records, folder, device, serialize) for folder in CONFIGS}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise NotLoadableError(f"{file.name} is not an archive of torch.export of this version: {error!r}") from None
    program = serialize._bytes_to_dataclass(schema.ExportedProgram, json.dumps(cleaned).encode())
    (call,) = program.graph_module.module_call_graph
    with one_at_a_time():
        # PyTorch finds out with an example in which input the conditions on sizes look; any values do.
        in_spec = pytree.treespec_loads(call.signature.in_spec)
        example = pytree.tree_unflatten([0] * in_spec.num_leaves, in_spec)
        return serialize.ExportedProgramDeserializer().deserialize(
            program, tensors[WEIGHTS], tensors[CONSTANTS], example
        )


def _check_records(file: Path, reader: Any, records: frozenset[str]) -> None:
    if MODEL not in records:
        older = "serialized_exported_program.json" in records
        what = "was saved by PyTorch 2.7 or older: save it again" if older else f"has no program {MODEL}"
        raise NotLoadableError(f"{file.name} {what}")
    if any(name.startswith(LIBRARIES) for name in records):
        raise CodeInArchiveError("it holds a compiled library")
    if others := [name for name in records if name.startswith("models/") and name != MODEL]:
        raise NotLoadableError(f"{file.name} holds several models, {others[0][:100]} among them; one is served")
    if sum(map(reader.get_record_size, records)) > file.stat().st_size:
        raise NotLoadableError(f"{file.name} unpacks to more than its size, which no archive of torch.export does")


def _json(reader: Any, name: str) -> Any:
    try:
        return json.loads(reader.get_record(name))
    except (RuntimeError, ValueError, RecursionError) as error:
        raise NotLoadableError(f"{name} of the archive cannot be read: {error}") from None


def _tensors(reader: Any, records: frozenset[str], folder: str, device: Any, serialize: Any) -> dict[str, Any]:
    """By name. Tensors that share their storage do so here too."""
    import torch

    if f"{folder}{CONFIGS[folder]}" not in records:
        raise CodeInArchiveError("its tensors are a pickle")
    storages: dict[tuple[str, Any], Any] = {}
    tensors: dict[str, Any] = {}
    for name, entry in _json(reader, f"{folder}{CONFIGS[folder]}")["config"].items():
        path, meta = entry["path_name"], entry["tensor_meta"]
        if entry["use_pickle"] or meta is None or not PATH.fullmatch(path):
            raise CodeInArchiveError(f"'{name[:80]}' is a pickle")
        dtype = serialize.deserialize_scalar_type(meta["dtype"])
        if (path, dtype) not in storages:
            storages[path, dtype] = _storage(reader, folder + path, dtype).to(device)
        sizes, strides = ([size["as_int"] for size in meta[of]] for of in ("sizes", "strides"))
        tensor = storages[path, dtype].as_strided(sizes, strides, meta["storage_offset"]["as_int"])
        tensors[_dotted(name)] = torch.nn.Parameter(tensor, requires_grad=False) if entry["is_param"] else tensor
    return tensors


def _storage(reader: Any, record: str, dtype: Any) -> Any:
    """All elements of a record, in one dimension."""
    import torch

    count, rest = divmod(reader.get_record_size(record), dtype.itemsize)
    if rest:
        raise ValueError(f"{record} has no whole number of elements")
    flat = torch.empty(0, dtype=dtype)
    if count:
        storage = reader.get_storage_from_record(record, count, dtype).untyped_storage()
        flat.set_(storage, 0, (count,), (1,))
    return flat


def _program(document: dict[str, Any], device: Mapping[str, Any]) -> dict[str, Any]:
    """What a program needs to run, each part of it checked: not where its nodes come from, nor of what modules."""
    module = document["graph_module"]
    if guards := [guard for guard in document.get("guards_code", ()) if not is_guard(guard)]:
        raise CodeInArchiveError(f"it has the condition {guards[0][:100]!r}")
    kept = {
        "graph": module["graph"],
        "signature": module["signature"],
        "module_call_graph": [entry for entry in module["module_call_graph"] if entry["fqn"] == ""],
    }
    cleaned: dict[str, Any] = {name: _cleaned(name, value, device) for name, value in kept.items()}
    return {
        "graph_module": {**cleaned, "metadata": {}, "treespec_namedtuple_fields": {}},
        "opset_version": _cleaned("opset_version", document["opset_version"], device),
        "range_constraints": _cleaned("range_constraints", document["range_constraints"], device),
        "schema_version": _cleaned("schema_version", document["schema_version"], device),
        "verifiers": _cleaned("verifiers", document.get("verifiers", []), device),
        "torch_version": "",
        "guards_code": list(document.get("guards_code", ())),
    }


def _cleaned(key: str, value: Any, device: Mapping[str, Any]) -> Any:
    """A value of this key, whatever is in it checked by its own key."""
    match value:
        case dict():
            if key in ("device", "as_device"):
                return dict(device)
            if key == "metadata":
                return {}
            if key in ("as_custom_obj", "custom_obj"):
                raise CodeInArchiveError("it holds an object of a class of its own")
            return {_name(name): _cleaned(name, each, device) for name, each in value.items()}
        case list():
            return [_cleaned(key, each, device) for each in value]
        case str():
            return CHECKS.get(key, _name)(value) if key not in FREE_TEXT else value
        case _:
            return value


def _name(text: str) -> str:
    if text and not is_name(text):
        raise CodeInArchiveError(f"it has the name {text[:100]!r}")
    return text


def _dotted(text: str) -> str:
    if not all(part.isdigit() or is_name(part) for part in text.split(".")):
        raise CodeInArchiveError(f"it has the name {text[:100]!r}")
    return text


def _expression(text: str) -> str:
    if not is_symbolic(text):
        raise CodeInArchiveError(f"it has the expression {text[:100]!r}")
    return text


def _operator(text: str) -> str:
    """ATen computes with tensors. What of it takes the name of a file does more."""
    if SYMBOL_OPERATORS.fullmatch(text) or WITH_GRAPHS.fullmatch(text):
        return text
    import torch

    found = OPERATOR.fullmatch(text)
    operator: Any = getattr(torch.ops, found[1]) if found else None
    for name in found.groups()[1:] if found else ():
        operator = getattr(operator, name, None)
    if not isinstance(operator, torch._ops.OpOverload):
        raise CodeInArchiveError(f"it calls {text[:100]!r}, which is not an operator of PyTorch's own")
    if any(argument.name == "filename" for argument in operator._schema.arguments):
        raise CodeInArchiveError(f"it calls {text[:100]!r}, which opens files")
    return text


def _container(text: str) -> str:
    version, spec = json.loads(text)
    if version != 1:
        raise ValueError(f"the form of its inputs is of version {version}")
    _check_container(spec)
    return text


def _check_container(spec: Mapping[str, Any]) -> None:
    if spec["type"] is not None and spec["type"] not in CONTAINERS:
        raise CodeInArchiveError(
            f"its inputs or outputs are a {str(spec['type'])[:100]}; let them be tensors, tuples, lists or dictionaries"
        )
    names = json.loads(spec["context"]) if spec["context"] is not None else None
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str | int) for name in names)):
        raise CodeInArchiveError(f"its inputs or outputs are described by {spec['context'][:100]!r}")
    for child in spec["children_spec"]:
        _check_container(child)


CHECKS: Final[Mapping[str, Callable[[str], str]]] = {
    "target": _operator,
    "as_operator": _operator,
    "expr_str": _expression,
    "in_spec": _container,
    "out_spec": _container,
    "parameter_name": _dotted,
    "buffer_name": _dotted,
    "tensor_constant_name": _dotted,
    "type": _name,
}
"""How a text is checked, by its key. A text of any other key is a name."""
