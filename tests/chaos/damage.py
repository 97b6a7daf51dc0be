"""Bits that flip in the files of a broker's streams, and ends of files that are gone."""

import random
from pathlib import Path
from typing import Final

__all__ = ["PATTERNS", "damage", "stored_files"]

PATTERNS: Final = ("*.blk", "index.db", "meta.inf", "meta.sum", "o.dat", "snap.*", "tav.idx")
"""What JetStream keeps: messages, the state of a stream, its settings, a consumer's state, and Raft's snapshots and
terms."""


def stored_files(store: Path, *patterns: str) -> list[Path]:
    """In order, so that a draw from them can be repeated; empty ones are left out."""
    found = (file for pattern in patterns or PATTERNS for file in store.rglob(pattern))
    return sorted(file for file in found if file.is_file() and file.stat().st_size)


def damage(file: Path, dice: random.Random) -> str:
    """Flip a bit somewhere in the file, or cut it off somewhere. Returns what was done."""
    data = bytearray(file.read_bytes())
    place = dice.randrange(len(data))
    if dice.random() < 0.5:
        data[place] ^= 1 << dice.randrange(8)
        done = f"a bit is flipped at {place} of {len(data)} bytes"
    else:
        del data[place:]
        done = f"cut off at {place} bytes"
    file.write_bytes(data)
    return done
