"""Libraries that are slow to import: out of a process that does not use them, and faster into one that does.

`import_when_used` and `skip_init` are to be called before the library's first import, so in a package's `__init__`;
afterwards, and where the library is not installed, they do nothing.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

__all__ = ["import_when_used", "skip_init", "uncollected"]


class _Unused(ModuleType):
    """A package that is loaded once something in it is asked for.

    `importlib.util.LazyLoader` would load it at the second import statement already, which reads `__spec__`.
    """

    def __getattr__(self, name: str) -> Any:
        spec = self.__spec__
        assert spec is not None
        assert spec.loader is not None
        self.__class__ = ModuleType  # type: ignore[assignment]  # typed as if a module's class could not change
        self.__path__ = list(spec.submodule_search_locations or ())
        spec.loader.exec_module(self)
        return getattr(self, name)


def import_when_used(package: str) -> None:
    """Let `import package` load nothing before the package is used."""
    if package in sys.modules or (spec := find_spec(package)) is None:
        return
    module = module_from_spec(spec)
    module.__class__ = _Unused
    del module.__path__  # so that an import of one of its modules counts as use
    sys.modules[package] = module


def skip_init(package: str) -> None:
    """Let the package be imported without its `__init__`: its modules are there as ever, its own names are not."""
    if package in sys.modules or (spec := find_spec(package)) is None:
        return
    sys.modules[package] = module_from_spec(spec)


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector off while much is imported: it would look at it many times, and find no garbage.

    For a service that is a fifth of the time of its imports.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
