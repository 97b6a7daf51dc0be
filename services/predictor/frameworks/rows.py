"""What models of tables have in common: one input, whose rows do not depend on each other."""

from collections.abc import Sequence

import numpy as np

from services.predictor.frameworks.base import Array, Arrays, InvalidInputError, Signature
from shared.contracts.tensors import Datatype, TensorSpec

__all__ = ["INPUT", "only_input", "table_signature"]

INPUT = "input"
"""The input's name where the configuration gives none. A request may call it as it likes."""


def table_signature(
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    own: Sequence[TensorSpec],
    *,
    columns: int,
    datatype: Datatype,
    default_outputs: tuple[str, ...],
) -> Signature:
    """`inputs` and `outputs` are those of the configuration, `own` the outputs that the model has. A configuration may
    say more of the model's outputs, and leave some out."""
    named = tuple(spec for spec in outputs if spec.name in {each.name for each in own})
    given = tuple(spec.name for spec in named)
    return Signature(
        inputs=tuple(inputs) or (TensorSpec(name=INPUT, datatype=datatype, shape=(-1, columns)),),
        outputs=named or tuple(own),
        rows=True,
        strict=bool(inputs),
        default_outputs=given or default_outputs,
    )


def only_input(inputs: Arrays) -> Array:
    """The one input that the signature says there is, as the framework takes it. Raises InvalidInputError."""
    (array,) = inputs.values()
    if array.dtype.kind == "O":
        raise InvalidInputError("the model takes numbers, not BYTES")
    if array.ndim != 2:
        raise InvalidInputError(f"the model takes rows of columns, not the shape {list(array.shape)}")
    return np.ascontiguousarray(array)
