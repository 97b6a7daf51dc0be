"""Models of the store as folders on this machine, in a bounded amount of room.

Several processes may share one folder: a model appears in it whole, and one that is removed stays readable to those
that have it open.
"""

import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from anyio import to_thread

from shared.contracts.models import Model, model_hash
from shared.contracts.problems import Problem
from shared.stores.model_files import read_files
from shared.stores.models import ModelStore

__all__ = ["ModelFolder", "writable_folder"]

log = logging.getLogger(__name__)

NAME: Final = "model-cache"


def writable_folder(chosen: Path | None, data: Path) -> Path:
    """The folder for models: the chosen one, else one within the data folder, or where that cannot be written one
    for temporary files."""
    if chosen is not None:
        return chosen
    folder = data / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.gettempdir()) / f"sluice-{NAME}-{os.getuid()}"


class ModelFolder:
    """`max_bytes` bounds the models that stay; those used longest ago are removed first."""

    def __init__(self, store: ModelStore, root: Path, *, max_bytes: int) -> None:
        self._store = store
        self._root = root
        self._max_bytes = max_bytes

    async def fetch(self, tenant: str, name: str) -> tuple[Model, Path]:
        """A tenant's model and the folder with its files, each checked by its hash.

        Raises Problem MODEL_NOT_FOUND, or INVALID_REQUEST where the store does not have what was put there; OSError
        and nats errors.
        """
        model = await self._store.get(tenant, name)
        # By the whole hash: the short names of two tenants' models may be the same.
        folder = self._root / model.hash
        if await to_thread.run_sync(folder.is_dir) and not await to_thread.run_sync(_is_whole, folder, model):
            log.warning("a model's files in the cache are damaged, so they are fetched again", extra={"model": name})
            await to_thread.run_sync(_remove, folder)
        await self._store.fetch(tenant, name, folder)
        await to_thread.run_sync(self._prune, folder)
        return model, folder

    def _prune(self, used: Path) -> None:
        """Remove what is beyond the bound, but not what is used now."""
        used.touch()
        folders = []
        for folder in self._root.iterdir():
            try:
                folders.append((folder.stat().st_mtime, folder))
            except OSError:
                continue  # another process was faster
        total = 0
        for _, folder in sorted(folders, reverse=True):
            total += _size(folder)
            if total > self._max_bytes and folder != used:
                _remove(folder)


def _is_whole(folder: Path, model: Model) -> bool:
    try:
        return model_hash(read_files(folder)) == model.hash
    except (OSError, Problem):
        return False


def _size(folder: Path) -> int:
    try:
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    except OSError:
        return 0


def _remove(folder: Path) -> None:
    """At once, as others see it: by another name first, so that nobody finds half of it."""
    away = folder.with_name(f".{folder.name}.{os.getpid()}.removed")
    try:
        folder.rename(away)
    except OSError:
        return
    shutil.rmtree(away, ignore_errors=True)
