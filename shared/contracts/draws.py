"""Draws by names: every process comes to the same number."""

from hashlib import blake2b

__all__ = ["uniform"]


def uniform(*names: str) -> float:
    """A number in (0, 1), both excluded, that is spread evenly over names; 52 bits, so that none rounds to 1."""
    digest = blake2b("\0".join(names).encode(), digest_size=8).digest()
    return ((int.from_bytes(digest, "big") >> 12) + 0.5) / 2**52
