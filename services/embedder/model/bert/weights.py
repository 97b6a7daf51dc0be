"""The weights of a safetensors file, mapped into memory and not read.

The format: the length of a header in 8 bytes, a JSON header with the type, shape and place of each tensor, the tensors.
https://huggingface.co/docs/safetensors
"""

import json
import mmap
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.embedder.model.bert.checkpoint import UnsupportedModelError

__all__ = ["MappedWeights"]

STORED: Final[dict[str, np.dtype[Any]]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
"""Number formats; numpy has none for bfloat16, which is the upper half of a float32."""

LENGTH_BYTES: Final = 8
LONGEST_HEADER: Final = 100_000_000
"""Bytes; the format's own limit."""


class MappedWeights:
    """Tensors by name, in float32. Those that are stored so are the file's pages; the others are copies."""

    def __init__(self, path: Path) -> None:
        """Raises UnsupportedModelError where there is no such file, or not a whole one."""
        self._file = path.name
        try:
            with path.open("rb") as file:
                # A private mapping: OpenVINO takes without a copy only memory that could be written to.
                self._pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            self._begin = LENGTH_BYTES + int.from_bytes(self._pages[:LENGTH_BYTES], "little")
            self._places: dict[str, Any] = json.loads(self._pages[LENGTH_BYTES : min(self._begin, LONGEST_HEADER)])
            self._places.pop("__metadata__", None)
            end = self._begin + max(place["data_offsets"][1] for place in self._places.values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnsupportedModelError(f"{self._file} cannot be read: {error}") from error
        if end != len(self._pages):
            raise UnsupportedModelError(f"{self._file} has {len(self._pages):,} bytes, not the {end:,} of its header")
        # A checkpoint of more than the transformer has it under a name of its own.
        self._prefix = "bert." if "bert.embeddings.word_embeddings.weight" in self._places else ""

    def tensor(self, name: str, *shape: int) -> npt.NDArray[np.float32]:
        """Raises UnsupportedModelError where there is none of this name and shape; -1 stands for any length."""
        try:
            place = self._places[self._prefix + name]
            stored = STORED[place["dtype"]]
            begin, end = place["data_offsets"]
            found = np.frombuffer(self._pages, stored, (end - begin) // stored.itemsize, self._begin + begin)
            found = found.reshape(place["shape"])
        except (KeyError, TypeError, ValueError) as error:
            raise UnsupportedModelError(f"{self._file} has no {name} that can be used: {error}") from error
        if len(shape) != found.ndim or any(a not in (-1, b) for a, b in zip(shape, found.shape, strict=True)):
            raise UnsupportedModelError(f"{name} in {self._file} has the shape {found.shape}")
        if place["dtype"] == "BF16":
            widened: npt.NDArray[np.float32] = (found.astype(np.uint32) << 16).view(np.float32)
            return widened
        return np.asarray(found, dtype=np.float32)

    def release_pages(self) -> None:
        """Give back the memory of pages that were read; those that are used again come from the file."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._pages.madvise(mmap.MADV_DONTNEED)
