"""Panics: how a library in Rust ends a call that it did not foresee, such as one with a tokenizer that makes no sense.

They reach Python as exceptions that are no `Exception`, so `except Exception` lets them pass, up to the end of the
process. The fault lies in one call, as with any other error.
"""

import asyncio
from typing import Final

__all__ = ["is_end", "is_panic"]

ENDS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)
"""What is no `Exception` because it ends a process, a task or a generator."""


def is_end(error: BaseException) -> bool:
    """Whether it is no failure of a call: whoever works on has to let it pass."""
    return isinstance(error, ENDS)


def is_panic(error: BaseException) -> bool:
    return not (isinstance(error, Exception) or is_end(error))
