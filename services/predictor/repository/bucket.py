"""A model repository in a bucket: a copy of it on this machine, which follows it.

Each version of a model's files is a folder of its own, and a link with the model's name leads to the newest one that is
whole. So who reads the copy finds a model as it was, or as it is. Files that no link leads to stay for one more look:
somebody may be loading them.
"""

import asyncio
import fcntl
import hashlib
import logging
import os
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from services.predictor.repository.layout import MOST_FILES, NAME
from shared.tasks import background

if TYPE_CHECKING:
    from obstore import ObjectMeta

__all__ = ["BucketCopy", "is_bucket"]

log = logging.getLogger(__name__)

COPIES: Final = ".copies"
PARTIAL: Final = ".partial"
LOCK: Final = ".lock"
PIECE: Final = 2**20
DOWNLOADS: Final = 4
"""Files that are read at once."""

MOST_OBJECTS: Final = 1_000_000
SETTLED_SECONDS: Final = 10.0
"""A model whose newest object is older is not being uploaded any more; nor is one that two looks find the same."""

RESERVE: Final = 256 * 2**20
"""Bytes that stay free on the disk."""

RETRIES: Final = 5
TIMEOUT: Final = timedelta(seconds=120)
"""For one request."""

FAILURES: Final = (BaseError, OSError)

Objects = Sequence["ObjectMeta"]


def is_bucket(repository: str) -> bool:
    """Whether a model repository is the URL of a bucket, and not a folder."""
    return "://" in repository


class BucketCopy:
    """Follows a bucket within the block of `running`, in a folder that nothing else writes to.

    Credentials, region and endpoint of the store are those of the environment.
    """

    def __init__(self, url: str, folder: Path, *, seconds: float) -> None:
        """Raises ValueError for a URL that obstore does not know."""
        # Options that are given take the place of this variable.
        plain = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
        options: Any = {
            "client_options": {"timeout": TIMEOUT, "allow_http": plain},
            "retry_config": {"max_retries": RETRIES, "retry_timeout": TIMEOUT},
        }
        self._url = url.rstrip("/")
        try:
            self._store = from_url(self._url, **options)
        except BaseError as error:
            raise ValueError(_first_line(error)) from None
        self._folder = folder
        self._seconds = seconds
        self._stopped = threading.Event()
        """Set at the end: a thread that reads a large model would hold up the end of the process."""
        self._before: frozenset[str] = frozenset()
        self._unsettled: frozenset[str] = frozenset()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Path]:
        """The folder with the models. Raises ConnectionError where the bucket cannot be read, and no copy is there; and
        RuntimeError where another process has the folder."""
        with _locked(self._folder):
            try:
                await self._copy_first()
                async with background(self._follow()):
                    yield self._folder
            finally:
                self._stopped.set()

    async def _copy_first(self) -> None:
        try:
            await asyncio.to_thread(self.copy)
        except FAILURES as error:
            reason = f"cannot read the model repository {self._url}: {_first_line(error)}"
            if not self._links():
                raise ConnectionError(reason) from None
            log.warning("%s; going on with the copy from before", reason)

    def copy(self) -> None:
        """Bring the copy in line with the bucket; a model that cannot be copied stays as it is, and is tried again with
        the next call. In a thread, one at a time. Raises what obstore raises where the bucket cannot be listed."""
        (self._folder / COPIES).mkdir(parents=True, exist_ok=True)
        wanted = {model: (_fingerprint(objects), objects) for model, objects in self._list().items()}
        links = self._links()
        unsettled = {version for version, objects in wanted.values() if not _is_settled(objects)}
        changed = {model: one for model, one in wanted.items() if links.get(model) != one[0]}
        for model, (version, objects) in changed.items():
            if version in unsettled and version not in self._unsettled:
                continue
            if self._stopped.is_set():
                return
            try:
                self._fetch(model, version, objects)
            except FAILURES as error:
                log.warning("cannot copy the model %s from %s: %s", model, self._url, _first_line(error))
            else:
                links[model] = version
                log.info("copied", extra={"model": model, "files": len(objects)})
        for model in links.keys() - wanted.keys():
            (self._folder / model).unlink(missing_ok=True)
            del links[model]
        self._unsettled = frozenset(unsettled)
        self._tidy(frozenset(links.values()))

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await asyncio.to_thread(self.copy)
            except FAILURES as error:
                log.warning("cannot read the model repository %s: %s", self._url, _first_line(error))

    def _list(self) -> Mapping[str, Objects]:
        """The objects of each model, in the order of their paths. What is hidden, or of no model, is left out."""
        models: dict[str, list[ObjectMeta]] = defaultdict(list)
        count = 0
        for page in obstore.list(self._store):
            for item in page:
                count += 1
                model, *rest = item["path"].split("/")
                if rest and NAME.fullmatch(model) and all(map(_is_file_name, rest)):
                    models[model].append(item)
            if count > MOST_OBJECTS:
                raise OSError(f"it has more than {MOST_OBJECTS:,} objects")
        return {model: sorted(objects, key=lambda item: item["path"]) for model, objects in models.items()}

    def _links(self) -> dict[str, str]:
        """The models of the copy, with the version that each link leads to."""
        found: dict[str, str] = {}
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.is_symlink() and entry.is_dir():
                    found[entry.name] = os.path.basename(os.readlink(entry.path))
        return found

    def _fetch(self, model: str, version: str, objects: Objects) -> None:
        copies = self._folder / COPIES
        partial = copies / f"{version}{PARTIAL}"
        if not (copies / version).is_dir():
            self._check_room(objects)
            shutil.rmtree(partial, ignore_errors=True)
            with ThreadPoolExecutor(DOWNLOADS, "bucket") as threads:
                list(threads.map(lambda item: self._read(item, partial), objects))
            partial.rename(copies / version)
        link = copies / f"{model}.link"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(COPIES, version))
        link.replace(self._folder / model)

    def _check_room(self, objects: Objects) -> None:
        if len(objects) > MOST_FILES:
            raise OSError(f"it has {len(objects):,} files; {MOST_FILES:,} are taken")
        needed, free = sum(item["size"] for item in objects), shutil.disk_usage(self._folder).free
        if needed + RESERVE > free:
            raise OSError(f"it has {needed / 2**20:,.0f} MiB, and {free / 2**20:,.0f} MiB are free at {self._folder}")

    def _read(self, item: "ObjectMeta", folder: Path) -> None:
        """Raises OSError where the object is not the one that was listed any more."""
        target = folder.joinpath(*item["path"].split("/")[1:])
        target.parent.mkdir(parents=True, exist_ok=True)
        found = obstore.get(self._store, item["path"])
        with target.open("xb") as file:
            for piece in found.stream(PIECE):
                if self._stopped.is_set():
                    raise OSError("the predictor stops")
                file.write(piece)
            size = file.tell()
        if (found.meta["e_tag"], size) != (item["e_tag"], item["size"]):
            raise OSError(f"{item['path']} changed while it was read")

    def _tidy(self, used: frozenset[str]) -> None:
        """Remove the files that no model has had since the call before."""
        kept, self._before = used | self._before, used
        with os.scandir(self._folder / COPIES) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and entry.name not in kept:
                    shutil.rmtree(entry.path, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reason = f"another process copies models to {folder}: give each predictor a SLUICE_DATA_DIR of its own"
            raise RuntimeError(reason) from None
        yield


def _is_file_name(part: str) -> bool:
    return bool(part) and part[0] != "." and "\\" not in part and part.isprintable()


def _is_settled(objects: Objects) -> bool:
    return max(item["last_modified"] for item in objects).timestamp() < time.time() - SETTLED_SECONDS


def _fingerprint(objects: Objects) -> str:
    """Another one where any object has changed."""
    digest = hashlib.blake2b(digest_size=16)
    for item in objects:
        tag = item["e_tag"] or item["last_modified"].isoformat()
        digest.update(f"{item['path']}\0{tag}\0{item['size']}\n".encode())
    return digest.hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().partition("\n")[0] or repr(error))[:300]
