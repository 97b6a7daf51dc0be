"""Programs in the repository: Python files that run in the predictor's process, where the operator allows it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from services.predictor.frameworks.base import FrameworkOptions, ModelFiles, NotLoadableError

__all__ = ["forget", "imported"]


def imported(file: Path, files: ModelFiles, options: FrameworkOptions) -> ModuleType:
    """The module of a file, under a name of its own, so that versions stand side by side. `forget` it at the end.

    Raises NotLoadableError where programs are not allowed, or what the program raises.
    """
    if not options.allow_code:
        raise NotLoadableError(
            f"{file.name} is a program. Set SLUICE_ALLOW_MODEL_CODE=true where you trust all who can write to the "
            "repository"
        )
    name = f"sluice_model_{files.name}_{files.version}_{id(files):x}".replace("-", "_").replace(".", "_")
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise NotLoadableError(f"{file.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        forget(module)
        raise
    return module


def forget(module: ModuleType) -> None:
    sys.modules.pop(module.__name__, None)
