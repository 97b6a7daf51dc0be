"""Whether a request fits a model's signature."""

from collections import Counter
from collections.abc import Mapping, Sequence

from services.predictor.frameworks.base import Array, Signature
from services.predictor.serving.arrays import to_array
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import Datatype, InferRequest, Tensor, TensorSpec

__all__ = ["chosen_outputs", "read_inputs", "rows_of"]


def read_inputs(signature: Signature, request: InferRequest) -> dict[str, Array]:
    """The inputs by name. Raises Problem INVALID_REQUEST where they do not fit."""
    names = [tensor.name for tensor in request.inputs]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise _invalid(f"The input '{doubled[:80]}' comes twice.")
    if signature.strict:
        specs = {spec.name: spec for spec in signature.inputs}
        _check_names(specs, names, signature.optional)
        for tensor in request.inputs:
            _check(tensor, specs[tensor.name])
    elif len(names) != len(signature.inputs):
        raise _invalid(f"The model takes {len(signature.inputs)} inputs, and the request has {len(names)}.")
    else:
        for tensor, spec in zip(request.inputs, signature.inputs, strict=True):
            _check_shape(tensor, spec)
    return {tensor.name: to_array(tensor) for tensor in request.inputs}


def chosen_outputs(signature: Signature, request: InferRequest) -> tuple[str, ...]:
    """The outputs to give. Raises Problem INVALID_REQUEST for one that the model does not have."""
    known = tuple(spec.name for spec in signature.outputs)
    if not request.outputs:
        return known if signature.default_outputs is None else signature.default_outputs
    names = tuple(output.name for output in request.outputs)
    if doubled := next((name for name, count in Counter(names).items() if count > 1), None):
        raise _invalid(f"The output '{doubled[:80]}' is asked for twice.")
    if known and (unknown := next((name for name in names if name not in known), None)) is not None:
        raise _invalid(f"The model has no output '{unknown[:80]}'. Its outputs are: {', '.join(known)}.")
    return names


def rows_of(inputs: Mapping[str, Array]) -> int | None:
    """The rows of a request that may be joined with others; None if it may not."""
    rows = {array.shape[0] if array.ndim else None for array in inputs.values()}
    only = rows.pop() if len(rows) == 1 else None
    return only or None


def _check_names(specs: Mapping[str, TensorSpec], names: Sequence[str], optional: frozenset[str]) -> None:
    known = ", ".join(specs)
    if unknown := next((name for name in names if name not in specs), None):
        raise _invalid(f"The model has no input '{unknown[:80]}'. Its inputs are: {known}.")
    if missing := [name for name in specs if name not in names and name not in optional]:
        raise _invalid(f"The input '{missing[0]}' is missing. The model's inputs are: {known}.")


def _check(tensor: Tensor, spec: TensorSpec) -> None:
    # A BF16 tensor reaches the model as FP32.
    given = {tensor.datatype, Datatype.FP32} if tensor.datatype is Datatype.BF16 else {tensor.datatype}
    if spec.datatype not in given:
        raise _invalid(f"The input '{tensor.name}' is {tensor.datatype}, and the model takes {spec.datatype}.")
    _check_shape(tensor, spec)


def _check_shape(tensor: Tensor, spec: TensorSpec) -> None:
    if not spec.shape:
        return  # a single value, or any shape: the model itself says
    fits = len(tensor.shape) == len(spec.shape) and all(
        wanted in (-1, size) for size, wanted in zip(tensor.shape, spec.shape, strict=True)
    )
    if not fits:
        raise _invalid(
            f"The input '{tensor.name[:80]}' has the shape {list(tensor.shape)}; the model takes {list(spec.shape)}."
        )


def _invalid(detail: str) -> Problem:
    return Problem(ProblemType.INVALID_REQUEST, detail)
