"""The file `MLmodel`: the flavours of a model, and its signature as tensors."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import yaml

from services.predictor.frameworks.base import NotLoadableError
from shared.contracts.tensors import Datatype, TensorSpec

__all__ = ["Field", "MLmodel", "Schema", "read_mlmodel"]

LARGEST: Final = 1 << 20
"""Bytes of the file."""

OUTPUT: Final = "output"

COLUMNS: Final[Mapping[str, Datatype]] = {
    "boolean": Datatype.BOOL,
    "integer": Datatype.INT32,
    "long": Datatype.INT64,
    "float": Datatype.FP32,
    "double": Datatype.FP64,
    "string": Datatype.BYTES,
    "binary": Datatype.BYTES,
    "datetime": Datatype.BYTES,
}
"""Types of columns. A time is a text of ISO 8601."""

TENSORS: Final[Mapping[str, Datatype]] = {
    "bool": Datatype.BOOL,
    "uint8": Datatype.UINT8,
    "uint16": Datatype.UINT16,
    "uint32": Datatype.UINT32,
    "uint64": Datatype.UINT64,
    "int8": Datatype.INT8,
    "int16": Datatype.INT16,
    "int32": Datatype.INT32,
    "int64": Datatype.INT64,
    "float16": Datatype.FP16,
    "float32": Datatype.FP32,
    "float64": Datatype.FP64,
    "str": Datatype.BYTES,
    "bytes": Datatype.BYTES,
    "object": Datatype.BYTES,
}
"""NumPy's types of tensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A column, or a tensor: `kind` is MLflow's name of its type. `name` is empty where the signature has none."""

    name: str
    kind: str
    datatype: Datatype
    shape: tuple[int, ...]
    required: bool = True

    def spec(self, default: str) -> TensorSpec:
        return TensorSpec(name=self.name or default, datatype=self.datatype, shape=self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The inputs, or the outputs: columns of a table, each of one dimension, or tensors."""

    fields: tuple[Field, ...]
    table: bool

    def specs(self, default: str) -> tuple[TensorSpec, ...]:
        return tuple(each.spec(default) for each in self.fields)

    @property
    def optional(self) -> frozenset[str]:
        return frozenset(each.name for each in self.fields if not each.required)


@dataclass(frozen=True, slots=True, kw_only=True)
class MLmodel:
    """`inputs` is None where the model has no signature; `outputs` where it has none, or one that tensors cannot say.
    `params` are the names of the parameters that a request may have."""

    folder: Path
    flavors: Mapping[str, Mapping[str, Any]]
    inputs: Schema | None
    outputs: Schema | None
    params: frozenset[str]

    @property
    def pyfunc(self) -> Mapping[str, Any]:
        """The flavour `python_function`; empty where it has none."""
        return self.flavors.get("python_function", {})

    def path(self, named: object) -> Path:
        """A file or folder within the model. Raises NotLoadableError where it is elsewhere, or is not there."""
        relative = PurePosixPath(str(named))
        found = self.folder / relative
        if relative.is_absolute() or ".." in relative.parts or not found.exists():
            raise NotLoadableError(f"MLmodel names {str(named)[:100]!r}, which is not in the model's folder")
        return found


def read_mlmodel(file: Path) -> MLmodel:
    """Raises NotLoadableError for a file that is not one of MLflow."""
    if file.stat().st_size > LARGEST:
        raise NotLoadableError(f"MLmodel is larger than {LARGEST:,} bytes")
    try:
        text = file.read_text("utf-8")
        # Aliases of aliases become gigabytes where they are copied, and MLflow writes none.
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise NotLoadableError("MLmodel has aliases (*name), which MLflow does not write")
        content = yaml.safe_load(text)
        flavors = {str(name): dict(flavor or {}) for name, flavor in content["flavors"].items()}
        signature = content.get("signature") or {}
        params = json.loads(signature.get("params") or "[]")
        return MLmodel(
            folder=file.parent,
            flavors=flavors,
            inputs=_inputs(signature["inputs"]) if signature.get("inputs") else None,
            outputs=_schema(signature["outputs"]) if signature.get("outputs") else None,
            params=frozenset(str(param["name"]) for param in params),
        )
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise NotLoadableError(f"MLmodel is not a file of MLflow: {error!r}") from None


def _schema(text: str) -> Schema | None:
    """None where tensors cannot say all of it: an object, or a column of any type."""
    read = json.loads(text)
    fields = [_tensor(each) if each["type"] == "tensor" else _column(each) for each in read]
    known = tuple(field for field in fields if field is not None)
    if len(known) < len(fields):
        return None
    return Schema(fields=known, table=all(each["type"] != "tensor" for each in read))


def _inputs(text: str) -> Schema:
    """Raises NotLoadableError where tensors cannot say them."""
    schema = _schema(text)
    if schema is None:
        raise NotLoadableError(
            "the inputs of its signature are objects, arrays or of any type: columns of "
            f"{', '.join(COLUMNS)} and tensors of numbers or texts can be served"
        )
    if len(schema.fields) > 1 and not all(each.name for each in schema.fields):
        raise NotLoadableError("the inputs of its signature have no names")
    return schema


def _column(read: Mapping[str, Any]) -> Field | None:
    datatype = COLUMNS.get(str(read["type"]))
    if datatype is None:
        return None
    return Field(
        name=str(read.get("name") or ""),
        kind=str(read["type"]),
        datatype=datatype,
        shape=(-1,),
        required=bool(read.get("required", True)),
    )


def _tensor(read: Mapping[str, Any]) -> Field | None:
    kind, sizes = str(read["tensor-spec"]["dtype"]), read["tensor-spec"]["shape"]
    datatype = TENSORS.get(kind)
    if datatype is None:
        return None
    return Field(name=str(read.get("name") or ""), kind=kind, datatype=datatype, shape=_shape(sizes))


def _shape(sizes: Sequence[Any]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) and size >= 0 else -1 for size in sizes)
