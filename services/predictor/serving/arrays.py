"""Tensors of the protocol as arrays of NumPy, and back."""

import math
from typing import Final

import numpy as np

from services.predictor.frameworks.base import Array
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import Datatype, Tensor, pack_bytes, unpack_bytes

__all__ = ["NUMPY", "datatype_of", "to_array", "to_tensor"]

NUMPY: Final = {
    Datatype.BOOL: np.dtype("?"),
    Datatype.UINT8: np.dtype("u1"),
    Datatype.UINT16: np.dtype("<u2"),
    Datatype.UINT32: np.dtype("<u4"),
    Datatype.UINT64: np.dtype("<u8"),
    Datatype.INT8: np.dtype("i1"),
    Datatype.INT16: np.dtype("<i2"),
    Datatype.INT32: np.dtype("<i4"),
    Datatype.INT64: np.dtype("<i8"),
    Datatype.FP16: np.dtype("<f2"),
    Datatype.FP32: np.dtype("<f4"),
    Datatype.FP64: np.dtype("<f8"),
}
"""BF16 and BYTES have no type of NumPy's."""

MOST_ELEMENTS: Final = 2**48

DATATYPES: Final = {dtype: datatype for datatype, dtype in NUMPY.items()}


def to_array(tensor: Tensor) -> Array:
    """Raises Problem INVALID_REQUEST where the data are not those of its shape."""
    # NumPy has no array of a shape whose product is too large, also where that is times 0.
    if any(size < 0 for size in tensor.shape) or math.prod(filter(None, tensor.shape)) > MOST_ELEMENTS:
        raise _invalid(tensor, f"has the shape {list(tensor.shape)}: no array can have it")
    if tensor.datatype is Datatype.BYTES:
        return _bytes_array(tensor)
    if len(tensor.data) != tensor.elements * tensor.datatype.size:
        expected = f"{tensor.elements:,} elements of {tensor.datatype}"
        raise _invalid(tensor, f"has {len(tensor.data):,} bytes of data, not those of {expected}")
    if tensor.datatype is Datatype.BF16:
        halves = np.frombuffer(tensor.data, "<u2").astype("<u4")
        return (halves << 16).view("<f4").reshape(tensor.shape)
    return np.frombuffer(tensor.data, NUMPY[tensor.datatype]).reshape(tensor.shape)


def to_tensor(name: str, array: Array, datatype: Datatype | None = None) -> Tensor:
    """The tensor of an array, in the datatype that the model declares, or its own. Raises TypeError for an array that
    no datatype fits."""
    own = datatype_of(array)
    datatype = datatype or own
    if array.size and (datatype is Datatype.BYTES) != (own is Datatype.BYTES):
        raise TypeError(f"the output '{name}' is declared as {datatype}, and the model gave {own}")
    if datatype is Datatype.BYTES:
        data = pack_bytes(_element(element) for element in array.reshape(-1).tolist())
    elif datatype is Datatype.BF16:
        data = _bfloat16(np.ascontiguousarray(array, "<f4"))
    else:
        data = np.ascontiguousarray(array, NUMPY[datatype]).tobytes()
    return Tensor(name=name, datatype=datatype, shape=tuple(array.shape), data=data)


def datatype_of(array: Array) -> Datatype:
    """Raises TypeError for elements that no datatype fits."""
    if array.dtype.kind in "OSU":
        return Datatype.BYTES
    try:
        return DATATYPES[array.dtype.newbyteorder("<")]
    except KeyError:
        raise TypeError(f"elements of the type {array.dtype} are not of any datatype of the protocol") from None


def _bytes_array(tensor: Tensor) -> Array:
    try:
        elements = list(unpack_bytes(tensor.data))
    except ValueError as error:
        raise _invalid(tensor, str(error)) from None
    if len(elements) != tensor.elements:
        raise _invalid(tensor, f"has {len(elements):,} elements, not {tensor.elements:,}")
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array.reshape(tensor.shape)


def _element(element: object) -> bytes:
    return element if isinstance(element, bytes) else str(element).encode()


def _bfloat16(array: Array) -> bytes:
    """Rounded to the nearest, ties to even."""
    words = array.view("<u4").astype("<u8")
    rounded = (words + 0x7FFF + ((words >> 16) & 1)) >> 16
    nan = np.isnan(array)
    return np.where(nan, 0x7FC0, rounded).astype("<u2").tobytes()


def _invalid(tensor: Tensor, what: str) -> Problem:
    return Problem(ProblemType.INVALID_REQUEST, f"The tensor '{tensor.name[:80]}' {what}.")
