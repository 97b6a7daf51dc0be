"""The elements of a tensor: as JSON, and packed as they travel."""

import math
import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final

from shared.contracts.tensors import CODES, Datatype, pack_bytes, unpack_bytes, unpack_numbers

__all__ = ["nesting", "pack_elements", "pack_numbers", "unpack_elements"]

FLOATS: Final = (Datatype.FP16, Datatype.FP32, Datatype.FP64)
BINARY: Final = (Datatype.BF16,)
"""Datatypes that JSON has no form for."""

DEEPEST: Final = 32


def pack_elements(data: Sequence[Any], datatype: Datatype, shape: Sequence[int]) -> bytes:
    """Elements from JSON, flat or nested, in their packed form. Raises ValueError, which says what is wrong."""
    if datatype in BINARY:
        raise ValueError(f"{datatype} has no form in JSON: send it binary")
    elements = _flat(data)
    expected = math.prod(shape)
    if len(elements) != expected:
        raise ValueError(f"has {len(elements):,} elements, and the shape {list(shape)} has {expected:,}")
    try:
        return _packed(elements, datatype)
    except (TypeError, OverflowError, struct.error, UnicodeEncodeError):
        wrong = next((element for element in elements if not _fits(element, datatype)), None)
        raise ValueError(f"has an element that is not of {datatype}: {str(wrong)[:40]!r}") from None


def unpack_elements(data: bytes, datatype: Datatype) -> list[Any]:
    """Elements for JSON, flat; a number that JSON does not have is None. Raises ValueError, as above."""
    if datatype in BINARY:
        raise ValueError(f"{datatype} has no form in JSON: ask for it binary")
    if datatype is Datatype.BYTES:
        try:
            return [element.decode() for element in unpack_bytes(data)]
        except UnicodeDecodeError:
            raise ValueError("has bytes that are not UTF-8, which JSON cannot hold: ask for it binary") from None
    if datatype is Datatype.BOOL:
        return [byte != 0 for byte in data]
    elements = unpack_numbers(data, datatype)
    if datatype in FLOATS and not all(map(math.isfinite, elements)):
        return [element if math.isfinite(element) else None for element in elements]
    return elements


def pack_numbers(elements: Iterable[float], datatype: Datatype) -> bytes:
    """Numbers of any type but FP16 and BF16 in their packed form. Raises TypeError or OverflowError."""
    return _little_endian(array(CODES[datatype], elements))


def nesting(data: Any) -> list[int]:
    """The lengths of the first lists at each depth."""
    shape: list[int] = []
    while isinstance(data, list) and len(shape) < DEEPEST:
        shape.append(len(data))
        data = data[0] if data else None
    return shape


def _packed(elements: Sequence[Any], datatype: Datatype) -> bytes:
    if datatype is Datatype.BYTES:
        return pack_bytes(element.encode() if isinstance(element, str) else _refuse() for element in elements)
    if datatype is Datatype.BOOL:
        return bytes(_bit(element) for element in elements)
    if any(type(element) is bool for element in elements):
        raise TypeError
    if datatype in FLOATS:
        elements = [math.nan if element is None else element for element in elements]
    if datatype is Datatype.FP16:
        return struct.pack(f"<{len(elements)}e", *elements)
    packed = array(CODES[datatype], elements)
    if datatype is Datatype.FP32 and any(map(math.isinf, packed)):
        raise OverflowError
    return _little_endian(packed)


def _little_endian(numbers: "array[Any]") -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _flat(data: Sequence[Any]) -> Sequence[Any]:
    """The elements of nested lists. Raises ValueError where only some are nested, or too deep."""
    for _ in range(DEEPEST):
        nested = sum(type(element) is list for element in data)
        if not nested:
            return data
        if nested != len(data):
            raise ValueError("has lists beside elements")
        data = list(chain.from_iterable(data))
    raise ValueError(f"is nested deeper than {DEEPEST} levels")


def _fits(element: Any, datatype: Datatype) -> bool:
    try:
        _packed([element], datatype)
    except (TypeError, OverflowError, struct.error, UnicodeEncodeError):
        return False
    return True


def _bit(element: Any) -> int:
    """JSON's true and false, and 1 and 0, which some clients send."""
    if element is True or element is False or (type(element) is int and element in (0, 1)):
        return int(element)
    raise TypeError


def _refuse() -> bytes:
    raise TypeError
