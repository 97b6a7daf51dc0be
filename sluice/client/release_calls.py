"""Releases, as calls without I/O."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sluice.api.jobs import Job
from sluice.api.releases import ImportedRelease, Lineage, Release
from sluice.client.call import Call
from sluice.client.read import get, listing, model, nothing, pairs, segment, submitted
from sluice.client.registry_calls import TRANSFER_TIMEOUT, archive_bytes
from sluice.client.tar import packed, read_pieces, unpack_layout

__all__ = [
    "RELEASE_FORMATS",
    "answer_lineage",
    "create_release",
    "delete_release",
    "import_release",
    "promote_release",
    "release",
    "release_content",
    "release_target",
    "release_lineage",
    "release_statement",
    "releases",
    "remove_release_alias",
    "rollback_release",
    "set_release_alias",
]

RELEASE_FORMATS: Final = ("tar", "oci", "oci-archive")
"""How a release is saved: as a tar archive with checksums, as a folder with an OCI image layout, or as a tar archive of
one."""


def releases(collection: str | None = None) -> Call[list[Release]]:
    """All releases, or those of a collection, the newest first."""
    return get("/v1/releases", params=pairs(collection=collection), parse=listing(Release, "releases"))


def release(name: str) -> Call[Release]:
    """One release, by its name or as `<collection>@<alias>`; `SluiceError` with the code `not-found` where there is
    none."""
    return get(_path(name), parse=model(Release))


def create_release(
    collection: str,
    *,
    version: str | None = None,
    description: str = "",
    evaluations: Sequence[str] = (),
    templates: Mapping[str, str] | None = None,
    imported_from: str = "",
) -> Call[Release]:
    """Make a release of a version of a collection, or of the live one. The same again is the same release.

    `evaluations` are jobs that have measured it; `templates` are prompt templates by their file names.
    """
    body: dict[str, Any] = {
        "collection": collection,
        "version": version,
        "description": description,
        "evaluations": list(evaluations),
        "templates": dict(templates or {}),
        "imported_from": imported_from,
    }
    return Call(method="POST", path="/v1/releases", body=body, parse=model(Release), safe=True)


def delete_release(name: str) -> Call[None]:
    """Delete a release that is neither live nor a canary. Its version of the collection stays."""
    return Call(method="DELETE", path=_path(name), parse=nothing)


def promote_release(
    name: str, *, keep: int = 1, force: bool = False, reason: str = "", idempotency_key: str | None = None
) -> Call[Job]:
    """Make a release live; the work is done by the job that this returns. `keep` versions stay for a rollback."""
    body = {"keep": keep, "force": force, "reason": reason}
    return _submitted(f"{_path(name)}/promote", body, idempotency_key)


def rollback_release(
    collection: str, *, keep: int = 1, force: bool = False, reason: str = "", idempotency_key: str | None = None
) -> Call[Job]:
    """Go back to the release of a collection that was live before, or to the version where that is no release."""
    body = {"collection": collection, "keep": keep, "force": force, "reason": reason}
    return _submitted("/v1/releases/rollback", body, idempotency_key)


def set_release_alias(name: str, alias: str) -> Call[Release]:
    """Have `<collection>@<alias>` mean this release, and no other one of its collection."""
    return Call(method="PUT", path=f"{_path(name)}/aliases/{segment(alias)}", parse=model(Release), safe=True)


def remove_release_alias(name: str, alias: str) -> Call[None]:
    """Take an alias from a release; one that it does not have is no error."""
    return Call(method="DELETE", path=f"{_path(name)}/aliases/{segment(alias)}", parse=nothing, safe=True)


def release_lineage(name: str) -> Call[Lineage]:
    """Where a release is from: its models, the jobs that trained them, their data sets and the sources of these."""
    return get(f"{_path(name)}/lineage", parse=model(Lineage))


def answer_lineage(answer: str) -> Call[Lineage]:
    """Where an answer that is kept is from: the release or version that gave it, and where its models are from."""
    return get(f"/v1/answers/{segment(answer)}/lineage", parse=model(Lineage))


def release_statement(name: str) -> Call[bytes]:
    """What is signed of a release: an in-toto statement that names each file of `release_content` with its hash."""
    return get(f"{_path(name)}/statement", parse=archive_bytes)


def release_content(
    name: str,
    *,
    format: str = "tar",  # noqa: A002  (the API's word)
    signatures: Sequence[str] = (),
) -> Call[bytes]:
    """A release as a tar archive of its settings, templates and models. `save_release` writes it to disk instead.

    `format` is `tar` for these files with checksums, or `oci` for an OCI image layout of them. `signatures` of its
    statement are put into it, each as the key's id, a colon and the signature in base64url.
    """
    given = tuple(("signature", one) for one in signatures)
    params = (*pairs(format=None if format == "tar" else format), *given)
    return get(f"{_path(name)}/content", params=params, parse=archive_bytes, timeout=TRANSFER_TIMEOUT)


def import_release(archive: str | Path) -> Call[ImportedRelease]:
    """Store the models of a release that was exported elsewhere; returns its settings, to reindex a collection with.

    `archive` is a tar archive in either format, or a folder with an OCI image layout.
    """
    path = Path(archive)
    return Call(
        method="POST",
        path="/v1/releases/content",
        headers={"Content-Type": "application/x-tar"},
        chunks=(lambda: packed(path)) if path.is_dir() else (lambda: read_pieces(path)),
        parse=model(ImportedRelease),
        timeout=TRANSFER_TIMEOUT,
        safe=True,
    )


@contextmanager
def release_target(path: Path, format: str) -> Iterator[tuple[str, Path]]:  # noqa: A002  (the API's word)
    """The format to ask for, and the file to write it to, from which `path` is made after the block.

    A folder appears whole, or not at all. Raises `ValueError` for an unknown format, and FileExistsError where the
    folder is there already.
    """
    if format not in RELEASE_FORMATS:
        raise ValueError(f"{format!r} is not a format of releases; these are {', '.join(RELEASE_FORMATS)}")
    if format != "oci":
        yield format.removesuffix("-archive"), path
        return
    if path.exists():
        raise FileExistsError(f"{path} exists already. Name a folder that does not, or remove it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        archive, folder = work / "archive.tar", work / "layout"
        yield format, archive
        folder.mkdir()
        unpack_layout(archive, folder)
        os.rename(folder, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _submitted(path: str, body: Mapping[str, Any], idempotency_key: str | None) -> Call[Job]:
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    return Call(method="POST", path=path, body=dict(body), headers=headers, parse=submitted, safe=True)


def _path(name: str) -> str:
    return f"/v1/releases/{segment(name)}"
