"""The model repository as it is now: its folder is looked at again and again."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Self

from services.predictor.repository.layout import ModelFolder, ModelVersionFiles, Stamp, read_model, stamp_of
from shared.contracts.problems import Problem, ProblemType
from shared.reasons import told
from shared.tasks import background

__all__ = ["Repository"]

log = logging.getLogger(__name__)

SETTLED_SECONDS: Final = 2.0
"""A model whose files are older is not being written any more."""

FIRST_LOOKS: Final = 5
"""Looks at the start until no model is being written. Who copies models and then starts a predictor finds them all."""


class Repository:
    """Follows a folder within the block of `running`; `changed` is called whenever its models have.

    A model whose files are being written is taken once they are still: no change between two looks, or none for a
    while. Until then its files from before count. Raises NotADirectoryError where the folder is none at the start;
    later a folder that cannot be read leaves the models as they are.
    """

    def __init__(self, folder: Path, *, seconds: float, changed: Callable[[], None]) -> None:
        self._folder = folder
        self._seconds = seconds
        self._changed = changed
        self._models: dict[str, ModelFolder] = {}
        self._unsettled: dict[str, str] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        if not self._folder.is_dir():
            raise NotADirectoryError(f"the model repository {self._folder} is not a folder")
        self._models = await asyncio.to_thread(self._look)
        for _ in range(FIRST_LOOKS - 1):
            if not self._unsettled:
                break
            await asyncio.sleep(min(self._seconds, SETTLED_SECONDS))
            self._models = await asyncio.to_thread(self._look)
        log.info("models", extra={"folder": str(self._folder), "models": len(self._models)})
        async with background(self._follow()):
            yield self

    @property
    def versions(self) -> Iterable[ModelVersionFiles]:
        """All that are served, or stand by."""
        return [version for model in self._models.values() for version in (*model.versions, *model.standby)]

    def models(self, tenant: str) -> Iterable[ModelFolder]:
        """Those of the tenant, by name."""
        return [model for _, model in sorted(self._models.items()) if _permits(model, tenant)]

    def model(self, name: str, tenant: str) -> ModelFolder:
        """Raises Problem MODEL_NOT_FOUND."""
        model = self._models.get(name)
        if model is None or not _permits(model, tenant):
            detail = f"There is no model {name[:80]!r}. The index of the repository lists those that there are."
            raise Problem(ProblemType.MODEL_NOT_FOUND, detail)
        return model

    def candidates(self, name: str, version: str, tenant: str) -> tuple[ModelVersionFiles, ...]:
        """The versions that may answer, the best first: the one that is named, or any. Raises Problem MODEL_NOT_FOUND,
        or MODEL_UNAVAILABLE where the model has no version."""
        model = self.model(name, tenant)
        if not model.versions:
            raise Problem(ProblemType.MODEL_UNAVAILABLE, f"The model '{name}' cannot be loaded: {model.problem}")
        if not version:
            return (*model.versions, *model.standby)
        if found := tuple(each for each in model.versions if each.version == version):
            return found
        served = ", ".join(each.version for each in model.versions)
        detail = f"The model '{name}' has no version {version[:80]!r} that is served. There is {served}."
        raise Problem(ProblemType.MODEL_NOT_FOUND, detail)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            try:
                models = await asyncio.to_thread(self._look)
            except OSError as error:
                log.warning("cannot read the model repository: %r", error)
                continue
            except Exception:  # the next look may find something else
                log.exception("cannot read the model repository")
                continue
            if models != self._models:
                self._models = models
                self._changed()

    def _look(self) -> dict[str, ModelFolder]:
        """In a thread: nothing else changes the models meanwhile."""
        found: dict[str, ModelFolder] = {}
        unsettled: dict[str, str] = {}
        with os.scandir(self._folder) as entries:
            folders = [
                Path(entry.path) for entry in entries if not entry.name.startswith((".", "_")) and entry.is_dir()
            ]
        for folder in folders:
            known = self._models.get(folder.name)
            try:
                stamp = stamp_of(folder)
            except OSError:
                # Its files are changing just now.
                unsettled[folder.name] = ""
                if known is not None:
                    found[folder.name] = known
                continue
            if known is not None and known.stamp.digest == stamp.digest:
                found[folder.name] = known
            elif self._settled(folder.name, stamp):
                found[folder.name] = _read(folder, stamp)
            else:
                unsettled[folder.name] = stamp.digest
                if known is not None:
                    found[folder.name] = known
        self._unsettled = unsettled
        return found

    def _settled(self, name: str, stamp: Stamp) -> bool:
        return self._unsettled.get(name) == stamp.digest or stamp.newest < time.time() - SETTLED_SECONDS


def _read(folder: Path, stamp: Stamp) -> ModelFolder:
    """A model that nobody can read does not take the others along."""
    try:
        return read_model(folder, stamp)
    except Exception as error:
        log.exception("cannot read the model %s", folder.name)
        return ModelFolder(
            name=folder.name, stamp=stamp, problem=f"its folder cannot be read: {told(repr(error), folder)}"[:1000]
        )


def _permits(model: ModelFolder, tenant: str) -> bool:
    return model.config.tenants is None or tenant in model.config.tenants
