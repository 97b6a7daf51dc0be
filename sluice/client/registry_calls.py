"""Models of the store, as calls without I/O."""

from collections.abc import Sequence
from pathlib import Path

import httpx

from sluice.api.base import Listing
from sluice.api.registry import RegisteredModel, RegisteredModelList
from sluice.client.call import Call
from sluice.client.model_sources import model_archive
from sluice.client.read import get, model, nothing, pairs, segment

__all__ = [
    "TRANSFER_TIMEOUT",
    "archive_bytes",
    "delete_model",
    "import_model",
    "model_content",
    "registered_model",
    "registered_models",
]

TRANSFER_TIMEOUT = 1800.0
"""Seconds for the files of a model on their way."""


def registered_models() -> Call[list[RegisteredModel]]:
    """The models of the store, the newest first."""
    return get("/v1/registry/models", parse=_models)


def registered_model(name: str) -> Call[RegisteredModel]:
    """One model of the store; `SluiceError` with the code `model-not-found` where there is none."""
    return get(_path(name), parse=model(RegisteredModel))


def import_model(
    folder: str | Path,
    *,
    kind: str = "embedder",
    hash: str = "",  # noqa: A002  (the API's word)
    base: str = "",
    description: str = "",
    exclude: Sequence[str] = (),
    checksums: str | Path | None = None,
) -> Call[RegisteredModel]:
    """Store the model in a folder, in a tar archive of one, or in a bucket. The same files again are the same model.

    A folder may be one of the hub's cache. A bucket is `s3://bucket/prefix`, with the environment's credentials. `hash`
    is the one that the model must have, or else it is refused, as is any file that could run code. `exclude` are
    patterns of files that are left out. `checksums` is a file as `sha256sum` writes it, which has to fit all others.
    Raises `ModelSourceError` where they cannot be read, also while they are sent.
    """
    return Call(
        method="POST",
        path="/v1/registry/models",
        params=pairs(kind=kind, hash=hash or None, base=base or None, description=description or None),
        headers={"Content-Type": "application/x-tar"},
        chunks=model_archive(folder, exclude=exclude, checksums=checksums),
        parse=model(RegisteredModel),
        timeout=TRANSFER_TIMEOUT,
        safe=True,
    )


def model_content(name: str) -> Call[bytes]:
    """A model as a tar archive of its files. `save_model` writes it to disk instead."""
    return get(f"{_path(name)}/content", parse=archive_bytes, timeout=TRANSFER_TIMEOUT)


def delete_model(name: str) -> Call[None]:
    """Delete a model; `SluiceError` with the code `conflict` while a version of a collection or a release needs it."""
    return Call(method="DELETE", path=_path(name), parse=nothing)


def _path(name: str) -> str:
    return f"/v1/registry/models/{segment(name)}"


def _models(response: httpx.Response) -> Listing[RegisteredModel]:
    return Listing(RegisteredModelList.model_validate_json(response.content).models)


def archive_bytes(response: httpx.Response) -> bytes:
    """Reads a response that is an archive."""
    return response.content
