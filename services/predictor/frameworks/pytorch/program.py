"""A program that `torch.export` has made of a model: its graph says what it takes and gives."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pydantic import JsonValue

from services.predictor.frameworks.base import (
    Arrays,
    InvalidInputError,
    ModelFiles,
    NotLoadableError,
    Signature,
    refusing,
)
from services.predictor.frameworks.pytorch.tensors import (
    datatype_of,
    dtype_of,
    output_names,
    release,
    renamed,
    to_numpy,
    to_torch,
)
from shared.contracts.tensors import TensorSpec

__all__ = ["ProgramModel"]

CONDITIONS: Final = ("Guard failed:", "Expected input at", "Runtime assertion failed")
"""How PyTorch's errors begin where the sizes of inputs are not those that the program was exported for."""


class ProgramModel:
    """Requests may be joined where the first dimension of every tensor is the same free one, up to its largest size."""

    def __init__(self, program: Any, files: ModelFiles, device: Any) -> None:
        from torch.utils import _pytree as pytree

        self._device = device
        self._in_spec = program.call_spec.in_spec
        self._module = program.module()
        values = {node.name: node.meta.get("val") for node in program.graph.nodes}
        self._slots: list[tuple[str, Any]] = [
            _slot(spec.arg, values) for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"
        ]
        """Of each argument its name and None, or no name and its value."""
        made = [spec.arg for spec in program.graph_signature.output_specs if spec.kind.name == "USER_OUTPUT"]
        self._positions = [index for index, arg in enumerate(made) if _is_tensor(values.get(arg.name))]
        own = _names(program.call_spec.out_spec, self._positions, len(made), pytree)
        takes = [name for name, _ in self._slots if name]
        self._inputs = renamed("inputs", takes, files.inputs)
        self._outputs = renamed("outputs", own, files.outputs)
        given = [values[name] for name in takes]
        results = [values[made[index].name] for index in self._positions]
        rows = _rows([*given, *results])
        self.signature = Signature(
            inputs=tuple(map(_spec, self._inputs, given)),
            outputs=tuple(map(_spec, self._outputs, results)),
            rows=rows is not None,
            most_rows=_largest(program.range_constraints.get(rows)),
        )
        self._dtypes = {spec.name: dtype_of(spec.datatype) for spec in self.signature.inputs}

    def predict(self, inputs: Arrays, outputs: tuple[str, ...], _: Mapping[str, JsonValue]) -> Arrays:
        import torch
        from torch.utils import _pytree as pytree

        tensors = iter([to_torch(name, inputs[name], self._dtypes[name], self._device) for name in self._inputs])
        flat = [next(tensors) if name else value for name, value in self._slots]
        args, kwargs = pytree.tree_unflatten(flat, self._in_spec)
        with torch.inference_mode(), _conditions(), refusing(IndexError):
            made = pytree.tree_leaves(self._module(*args, **kwargs))
        results = dict(zip(self._outputs, (made[index] for index in self._positions), strict=True))
        return {name: to_numpy(results[name]) for name in outputs}

    def close(self) -> None:
        release(self._module)
        self._module = None


@contextmanager
def _conditions() -> Iterator[None]:
    """Raises InvalidInputError where a condition of the program on the sizes of its inputs does not hold."""
    try:
        yield
    except (AssertionError, RuntimeError) as error:
        if not str(error).startswith(CONDITIONS):
            raise
        said = str(error).split(". If you meant")[0]
        raise InvalidInputError(f"it was exported for other sizes of its inputs. {said}") from None


def _slot(arg: Any, values: Mapping[str, Any]) -> tuple[str, Any]:
    if type(arg).__name__ == "ConstantArgument":
        return "", arg.value
    if not _is_tensor(values.get(arg.name)):
        raise NotLoadableError(f"its input '{arg.name}' is a number: export the model with a tensor in its place")
    return arg.name, None


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _names(out_spec: Any, positions: Sequence[int], count: int, pytree: Any) -> tuple[str, ...]:
    """The keys of a dictionary are the names of the outputs in it."""
    paths = [path for path, _ in pytree.tree_leaves_with_path(pytree.tree_unflatten(range(count), out_spec))]
    keys = [[str(getattr(key, "key", getattr(key, "idx", ""))) for key in paths[index]] for index in positions]
    plain = output_names(len(positions))
    if all(path and hasattr(path[0], "key") for path in (paths[index] for index in positions)):
        return tuple("_".join(each) for each in keys)
    return plain


def _spec(name: str, value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    return TensorSpec(name=name, datatype=datatype_of(name, value.dtype), shape=shape)


def _rows(values: Sequence[Any]) -> Any:
    """The symbol that is the first size of all; None where there is none."""
    firsts = {
        value.shape[0].node.expr if value.ndim and not isinstance(value.shape[0], int) else None for value in values
    }
    only = firsts.pop() if len(firsts) == 1 else None
    return only if only is not None and only.is_symbol else None


def _largest(bounds: Any) -> int | None:
    """The upper bound; None where there is none."""
    return int(bounds.upper) if bounds is not None and getattr(bounds.upper, "is_Integer", False) else None
