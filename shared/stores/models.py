"""Models in the broker: records in the bucket `models`, files in the object store of the same name.

A record is written once all of its files are there, and removed before them. So whoever finds a record finds the files.
"""

import shutil
import tempfile
import time
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from io import BufferedWriter
from pathlib import Path
from typing import Final

from anyio import CancelScope, fail_after, to_thread
from nats.js import JetStreamContext
from nats.js.errors import ObjectNotFoundError
from nats.js.object_store import ObjectStore

from shared.contracts.models import Model, ModelFile, ModelKind, model_hash, model_name
from shared.contracts.problems import Problem, ProblemType
from shared.nats.kv import Repository
from shared.nats.objects import read_object
from shared.nats.subjects import MODEL_FILES, MODELS
from shared.stores.model_files import check_kind, check_path, read_files, verify_file

__all__ = ["ModelStore"]

DELETE_SECONDS: Final = 30.0


class ModelStore:
    """The models of all tenants. Methods raise nats errors."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._js = jetstream
        self._records = Repository(jetstream, MODELS, Model.model_validate_json, noun="model")
        self._files: ObjectStore | None = None

    async def put(
        self,
        tenant: str,
        folder: Path,
        kind: ModelKind,
        *,
        base: str = "",
        job: str = "",
        dataset: str = "",
        by: str = "",
        description: str = "",
        dimensions: int | None = None,
        metrics: Mapping[str, float] | None = None,
        expected: str = "",
    ) -> Model:
        """Store the model in a folder. The same files again are the same model: its first record stays.

        Raises Problem INVALID_REQUEST for files that no model of the kind may hold, or whose hash is not the `expected`
        one.
        """
        files = await to_thread.run_sync(read_files, folder)
        check_kind(files, kind)
        digest = model_hash(files)
        if expected not in ("", digest):
            detail = f"The model is refused. Its hash is {digest[:16]}… and not {expected[:16]}…, which was asked for."
            raise Problem(ProblemType.INVALID_REQUEST, detail)
        name = model_name(digest)
        await self._store(tenant, name, files, folder)
        model = Model(
            name=name,
            tenant=tenant,
            kind=kind,
            hash=digest,
            files=files,
            base=base,
            job=job,
            dataset=dataset,
            by=by,
            description=description,
            dimensions=dimensions,
            metrics=dict(metrics or {}),
            created_at=time.time(),
        )
        await self._records.create(f"{tenant}.{name}", model)
        # Somebody may have deleted the same model meanwhile, and these files with it.
        await self._store(tenant, name, files, folder)
        return await self._records.get(f"{tenant}.{name}") or model

    async def get(self, tenant: str, name: str) -> Model:
        """Raises Problem MODEL_NOT_FOUND."""
        model = await self._records.get(f"{tenant}.{name}")
        if model is None:
            raise Problem(ProblemType.MODEL_NOT_FOUND, f"There is no model '{name[:80]}' in the store of models.")
        return model

    async def require(self, tenant: str, name: str, *kinds: ModelKind) -> None:
        """Check that a tenant has a model of one of these kinds; an empty name stands for none.

        Raises Problem MODEL_NOT_FOUND, or INVALID_REQUEST for one of another kind.
        """
        if name and (model := await self.get(tenant, name)).kind not in kinds:
            wanted = " or ".join(kinds)
            raise Problem(ProblemType.INVALID_REQUEST, f"The model '{name}' is of the kind {model.kind}, not {wanted}.")

    async def list(self, tenant: str) -> list[Model]:
        """All models of a tenant, the newest first."""
        found = await self._records.list(f"{tenant}.*")
        return sorted(found, key=lambda model: (model.created_at, model.name), reverse=True)

    async def fetch(self, tenant: str, name: str, folder: Path) -> Model:
        """Have a model's files in a folder, which appears with all of them at once; one that is there is kept.

        Every file is checked by its hash. Raises Problem MODEL_NOT_FOUND, and INVALID_REQUEST for a file that is not
        what was stored.
        """
        model = await self.get(tenant, name)
        check_kind(model.files, model.kind)
        if await to_thread.run_sync(folder.is_dir):
            return model
        partial = await to_thread.run_sync(_partial, folder)
        try:
            for file in model.files:
                await self._fetch_file(model, file, partial / check_path(file.path))
            await to_thread.run_sync(_publish, partial, folder)
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(_remove, partial)
        return model

    async def delete(self, tenant: str, name: str) -> None:
        """Raises Problem MODEL_NOT_FOUND. Once the record is gone nobody can name the files, so a caller that is
        cancelled meanwhile waits until they are gone too; TimeoutError after DELETE_SECONDS."""
        model = await self.get(tenant, name)
        with fail_after(DELETE_SECONDS, shield=True):
            await self._records.purge(f"{tenant}.{name}")
            await self._delete_files(model)

    async def _delete_files(self, model: Model) -> None:
        store = await self._open()
        for file in model.files:
            if await self._records.get(f"{model.tenant}.{model.name}") is not None:
                return  # it was stored again meanwhile, and the files are those of that one
            try:
                await store.delete(f"{model.tenant}/{model.name}/{file.path}")
            except ObjectNotFoundError:
                continue

    async def _store(self, tenant: str, name: str, files: Sequence[ModelFile], folder: Path) -> None:
        """Have the files in the store. Those that are there stay: an upload that broke off goes on, and what a model
        has lost comes back."""
        store = await self._open()
        for file in files:
            path = f"{tenant}/{name}/{file.path}"
            if not await _has(store, path, file):
                with (folder / file.path).open("rb") as content:
                    await store.put(path, content)

    async def _fetch_file(self, model: Model, file: ModelFile, into: Path) -> None:
        content = await to_thread.run_sync(_create, into)
        try:
            await read_object(await self._open(), f"{model.tenant}/{model.name}/{file.path}", content)
        except ObjectNotFoundError:
            detail = f"The file '{file.path}' of the model '{model.name}' is not in the store any more."
            raise Problem(ProblemType.MODEL_NOT_FOUND, detail) from None
        finally:
            content.close()
        await to_thread.run_sync(verify_file, into, file)

    async def _open(self) -> ObjectStore:
        if self._files is None:
            self._files = await self._js.object_store(MODEL_FILES)
        return self._files


async def _has(store: ObjectStore, path: str, file: ModelFile) -> bool:
    try:
        info = await store.get_info(path)
    except ObjectNotFoundError:
        return False
    digest = (info.digest or "").partition("=")[2]
    return info.size == file.size and urlsafe_b64decode(digest).hex() == file.sha256


def _partial(folder: Path) -> Path:
    """A folder beside this one, to be renamed once it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))


def _create(path: Path) -> BufferedWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb")


def _publish(partial: Path, folder: Path) -> None:
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
