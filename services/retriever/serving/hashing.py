"""Hashes of strings, 64 bits each and the same in every process: what keys and terms are looked up by."""

import hashlib
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["hash_of", "hashes_of"]


def hashes_of(texts: Iterable[str]) -> NDArray[np.uint64]:
    digests = [hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype="<u8")


@lru_cache(maxsize=65_536)
def hash_of(text: str) -> np.uint64:
    """Of one string that is likely to come again, such as a term of a question."""
    return np.uint64(hashes_of([text])[0])
