"""Token vectors of passages that were asked for before, in a bounded amount of memory."""

from collections import OrderedDict
from hashlib import blake2b
from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["TokenCache", "TokenVectors", "pack_tokens"]


class TokenVectors(NamedTuple):
    """Unit vectors in one byte a component: `codes` (tokens, width), each row times its `scales` (tokens)."""

    codes: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]

    @property
    def bytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes


def pack_tokens(vectors: npt.NDArray[np.float32]) -> TokenVectors:
    """Each row by its largest component (absolute maximum quantisation): cosines keep an error of about 0.002."""
    scales = np.abs(vectors).max(axis=1, initial=1e-12) / np.float32(127)
    return TokenVectors(np.rint(vectors / scales[:, None]).astype(np.int8), scales.astype(np.float32))


class TokenCache:
    """The token vectors of texts by their hash; those asked for longest ago leave first. For any thread."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[bytes, TokenVectors] = OrderedDict()
        self._lock = Lock()

    @property
    def bytes(self) -> int:
        """Memory in use, never more than the bound."""
        return self._bytes

    def __contains__(self, text: str) -> bool:
        with self._lock:
            return _key(text) in self._entries

    def get(self, text: str) -> TokenVectors | None:
        key = _key(text)
        with self._lock:
            if (found := self._entries.get(key)) is not None:
                self._entries.move_to_end(key)
            return found

    def put(self, text: str, vectors: TokenVectors) -> None:
        """Keep the vectors of a text; those larger than the bound are not kept."""
        if vectors.bytes > self._max_bytes:
            return
        key = _key(text)
        with self._lock:
            if (known := self._entries.pop(key, None)) is not None:
                self._bytes -= known.bytes
            self._entries[key] = vectors
            self._bytes += vectors.bytes
            while self._bytes > self._max_bytes:
                _, oldest = self._entries.popitem(last=False)
                self._bytes -= oldest.bytes


def _key(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
