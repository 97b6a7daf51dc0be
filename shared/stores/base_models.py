"""Language models as folders of files, and which of them an adapter was trained for.

An adapter fits one model: the same weights, whatever their folder is called. So it names the fingerprint of its model.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from shared.contracts.models import AdapterBase
from shared.contracts.problems import Problem, ProblemType

__all__ = ["ADAPTER_CONFIG", "ADAPTER_WEIGHTS", "BASE", "fingerprint", "read_base", "write_base"]

ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
ADAPTER_CONFIG: Final = "adapter_config.json"
BASE: Final = "base.json"
"""The file of an adapter that names its model."""

SAMPLE: Final = 1024
"""Bytes at the beginning and in the middle of each tensor."""

MAX_HEADER: Final = 100 * 2**20
"""Bytes of the JSON that a safetensors file begins with."""

MAX_RECORD: Final = 10_000


def fingerprint(folder: Path) -> str:
    """A hash of a model's weights, as hexadecimal digits: of the names, types and shapes of all tensors, and of some
    bytes of each. Reads about a megabyte, however large the model is.

    Raises Problem INVALID_REQUEST where the folder has no weights as safetensors, and OSError.
    """
    digest = hashlib.sha256()
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise _invalid(f"'{folder.name}' has no weights as safetensors.")
    for path in paths:
        for sample in _samples(path):
            digest.update(sample)
    return digest.hexdigest()


def write_base(adapter: Path, base: AdapterBase) -> None:
    """Name the model of an adapter, in its folder."""
    (adapter / BASE).write_text(base.model_dump_json() + "\n")


def read_base(adapter: Path) -> AdapterBase | None:
    """The model that an adapter was trained for; None where it does not say so. Raises Problem INVALID_REQUEST."""
    path = adapter / BASE
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            return AdapterBase.model_validate_json(file.read(MAX_RECORD))
    except ValidationError:
        raise _invalid(f"'{BASE}' of the adapter does not name a model.") from None


def _samples(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise _invalid(f"'{path.name}' is not a safetensors file.")
        header = file.read(length)
        try:
            tensors = [tensor for name, tensor in json.loads(header).items() if name != "__metadata__"]
            spans = sorted((int(start), int(end)) for start, end in (tensor["data_offsets"] for tensor in tensors))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise _invalid(f"'{path.name}' is not a safetensors file.") from None
        yield header
        for start, end in spans:
            for at in (start, (start + end) // 2):
                file.seek(8 + length + at)
                yield file.read(min(SAMPLE, end - at))


def _invalid(detail: str) -> Problem:
    return Problem(ProblemType.INVALID_REQUEST, detail)
