"""Loads a model's files with its framework, and measures what that takes."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.predictor.frameworks.base import FrameworkOptions, LoadedModel, ModelFiles, NotLoadableError
from services.predictor.repository.layout import ModelVersionFiles

__all__ = ["LoadedFiles", "Loader"]

STATUS: Final = Path("/proc/self/statm")

LARGEST_SHARE: Final = 8
SMALLEST: Final = 32 * 2**20
"""A model takes at most so many times the size of its files, or so many bytes: growth beyond is somebody else's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedFiles:
    model: LoadedModel
    bytes: int


class Loader:
    """Called in any number of threads at once.

    The memory of a model is what the configuration says, or else what the process grew by, and at least the size of
    the files. Where several models are loaded at once, nobody can tell whose the growth is: then it is the files' size.
    """

    def __init__(self, options: FrameworkOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._measured: set[_Measure] = set()

    def __call__(self, files: ModelVersionFiles) -> LoadedFiles:
        """Raises NotLoadableError, or the Exception that the framework raises."""
        try:
            return self._load(files)
        except Exception:
            raise
        except BaseException as error:
            # A panic of a library in Rust, or a program that wants to exit: the others go on.
            raise NotLoadableError(f"{type(error).__name__}: {error}") from error

    def _load(self, files: ModelVersionFiles) -> LoadedFiles:
        if files.framework is None or files.file is None:
            raise NotLoadableError(files.problem or "it has no files")
        files.framework.prepare()
        with self._measure() as measure:
            model = files.framework.load(
                ModelFiles(
                    name=files.model,
                    version=files.version,
                    folder=files.folder,
                    file=files.file,
                    inputs=tuple(each.spec for each in files.config.inputs),
                    outputs=tuple(each.spec for each in files.config.outputs),
                    batches=bool(files.config.max_batch_size),
                    parameters=files.config.parameters,
                ),
                self._options,
            )
        if files.config.memory_mb:
            return LoadedFiles(model=model, bytes=files.config.memory_mb * 2**20)
        grown = min(measure.bytes, max(SMALLEST, LARGEST_SHARE * files.size))
        return LoadedFiles(model=model, bytes=max(files.size, grown))

    @contextmanager
    def _measure(self) -> Iterator["_Measure"]:
        mine = _Measure()
        with self._lock:
            for other in self._measured:
                other.alone = mine.alone = False
            self._measured.add(mine)
        before = _resident()
        try:
            yield mine
        finally:
            with self._lock:
                self._measured.discard(mine)
            mine.bytes = max(0, _resident() - before) if mine.alone else 0


class _Measure:
    def __init__(self) -> None:
        self.alone = True
        self.bytes = 0


def _resident() -> int:
    """Bytes of the process in memory; 0 where that is not known."""
    try:
        return int(STATUS.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
