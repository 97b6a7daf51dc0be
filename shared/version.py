"""Which Sluice this is."""

from importlib.metadata import version
from typing import Final

__all__ = ["VERSION"]

VERSION: Final = version("sluice")
"""Read once: it takes several milliseconds, and every ping is answered with it."""
