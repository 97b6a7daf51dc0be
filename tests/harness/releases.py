"""Archives of releases, and a store that takes their models without a broker."""

import hashlib
import io
import tarfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

from anyio import to_thread

from services.gateway.releases.archives.transfer import import_release
from shared.contracts.models import Model, ModelFile, ModelKind, model_hash, model_name
from shared.stores.model_files import read_files
from shared.stores.models import ModelStore
from sluice.api.releases import ImportedRelease

__all__ = ["CONTENT", "MODEL", "MODEL_FILES", "StoredModels", "import_archive", "tar_of"]

HEADER: Final = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
MODEL_FILES: Final = {
    "config.json": b'{"hidden_size": 32}',
    "model.safetensors": len(HEADER).to_bytes(8, "little") + HEADER + b"\0\0\0\0",
}
HASH: Final = model_hash(
    [
        ModelFile(path=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for name, data in MODEL_FILES.items()
    ]
)
MODEL: Final = {"name": model_name(HASH), "kind": "embedder", "hash": HASH}
CONTENT: Final = {"collection": "docs", "version": "v1"}


class StoredModels:
    """A store that keeps what it is told, and gives it back."""

    def __init__(self) -> None:
        self.models: list[Model] = []

    async def put(self, tenant: str, folder: Path, kind: ModelKind, *, expected: str, **members: Any) -> Model:
        files = read_files(folder)
        assert model_hash(files) == expected
        name = model_name(expected)
        model = Model(name=name, tenant=tenant, kind=kind, hash=expected, files=files, created_at=1.0, **members)
        self.models.append(model)
        return model

    async def get(self, tenant: str, name: str) -> Model:
        return next(model for model in self.models if model.name == name)

    async def fetch(self, tenant: str, name: str, folder: Path) -> Model:
        await to_thread.run_sync(_write, folder)
        return await self.get(tenant, name)


def _write(folder: Path) -> None:
    folder.mkdir()
    for path, data in MODEL_FILES.items():
        (folder / path).write_bytes(data)


async def import_archive(
    content: bytes, store: StoredModels, *, most_bytes: int = 2**30, **options: Any
) -> ImportedRelease:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 2**16):
            yield content[start : start + 2**16]

    _, imported = await import_release(
        cast("ModelStore", store), "acme", pieces(), by="ann", most_bytes=most_bytes, **options
    )
    return imported


def tar_of(files: Mapping[str, bytes], *, kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(data), kind, "/etc/passwd"
            tar.addfile(info, io.BytesIO(data) if kind == tarfile.REGTYPE else None)
    return out.getvalue()
