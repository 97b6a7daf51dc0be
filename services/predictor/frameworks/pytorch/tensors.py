"""Arrays of NumPy as PyTorch's tensors, and back; and the device that a model computes on."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from pydantic import JsonValue

from services.predictor.frameworks.base import Array, InvalidInputError, NotLoadableError
from shared.contracts.tensors import Datatype, TensorSpec

__all__ = [
    "chosen_device",
    "datatype_of",
    "dtype_of",
    "output_names",
    "release",
    "renamed",
    "set_threads",
    "to_numpy",
    "to_torch",
]

OUTPUT: Final = "output"

DTYPES: Final[Mapping[Datatype, str]] = {
    Datatype.BOOL: "bool",
    Datatype.UINT8: "uint8",
    Datatype.UINT16: "uint16",
    Datatype.UINT32: "uint32",
    Datatype.UINT64: "uint64",
    Datatype.INT8: "int8",
    Datatype.INT16: "int16",
    Datatype.INT32: "int32",
    Datatype.INT64: "int64",
    Datatype.FP16: "float16",
    Datatype.BF16: "bfloat16",
    Datatype.FP32: "float32",
    Datatype.FP64: "float64",
}
"""The names of PyTorch's types."""

DATATYPES: Final = {f"torch.{name}": datatype for datatype, name in DTYPES.items()}


def chosen_device(parameters: Mapping[str, JsonValue]) -> Any:
    """The device of the configuration's parameter `device`: cpu, cuda, cuda:1, or auto, a GPU where there is one.

    Raises NotLoadableError where it is not there.
    """
    import torch

    wanted = str(parameters.get("device") or "auto")
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise NotLoadableError(f"the device {wanted[:40]!r} is not one: cpu, cuda, cuda:1 or auto") from None
    if device.type not in ("cpu", "cuda"):
        raise NotLoadableError(f"the device {wanted[:40]!r} is not one: cpu, cuda, cuda:1 or auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise NotLoadableError(f"there is no device {wanted}: this process has {torch.cuda.device_count()} GPUs")
    return device


def set_threads(threads: int) -> None:
    """CPU threads of one call, of whatever model. 0 leaves PyTorch's own choice."""
    import torch

    if threads and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def release(module: Any) -> None:
    """Free the weights of a module at once: what refers to it in a circle would keep them until a collection."""
    import torch

    module.to("meta")
    cuda: Any = torch.cuda
    if cuda.is_initialized():
        cuda.empty_cache()


def dtype_of(datatype: Datatype) -> Any:
    """Raises NotLoadableError for BYTES."""
    import torch

    if datatype not in DTYPES:
        raise NotLoadableError(f"PyTorch has no tensors of {datatype}")
    return getattr(torch, DTYPES[datatype])


def datatype_of(name: str, dtype: Any) -> Datatype:
    """Raises NotLoadableError for a type that the protocol does not have."""
    datatype = DATATYPES.get(str(dtype))
    if datatype is None:
        raise NotLoadableError(f"'{name}' is of {dtype}, which the protocol has no datatype for")
    return datatype


def to_torch(name: str, array: Array, dtype: Any, device: Any) -> Any:
    """A copy: a model may write to its input."""
    import torch

    if array.dtype.kind == "O":
        raise InvalidInputError(f"the input '{name}' is BYTES, and the model takes {str(dtype).removeprefix('torch.')}")
    return torch.from_numpy(np.array(array)).to(device=device, dtype=dtype)


def to_numpy(value: Any) -> Array:
    """BF16 as float32, which NumPy has. Raises TypeError for what is not a tensor, or a number."""
    import torch

    if not isinstance(value, torch.Tensor):
        if isinstance(value, bool | int | float):
            return np.asarray(value)
        raise TypeError(f"the model gave a {type(value).__name__}, not a tensor")
    plain = value.detach()
    return np.asarray((plain.float() if plain.dtype is torch.bfloat16 else plain).cpu().contiguous().numpy())


def output_names(count: int) -> tuple[str, ...]:
    """Of outputs without names."""
    return (OUTPUT,) if count == 1 else tuple(f"{OUTPUT}_{index}" for index in range(count))


def renamed(what: str, own: Sequence[str], given: Sequence[TensorSpec]) -> tuple[str, ...]:
    """The names of tensors: the configuration's, in the order of the model's, or the model's own.

    Raises NotLoadableError where the configuration has others than the model.
    """
    names = tuple(spec.name for spec in given)
    if not names or set(names) == set(own):
        return tuple(own)
    if len(names) != len(own):
        raise NotLoadableError(
            f"the configuration names {len(names)} {what}, and the model has {len(own)}: {', '.join(own)}"
        )
    return names
