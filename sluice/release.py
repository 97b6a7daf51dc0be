"""Which Sluice this is."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["VERSION"]

try:
    VERSION = version("sluice")
except PackageNotFoundError:
    VERSION = "unknown"
