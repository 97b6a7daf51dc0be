"""Releases on their way: what they say, their prompt templates and models, each with its hash; without the index.

Two formats carry the same files: a tar archive with checksums, and an OCI image layout. Which one arrives shows by the
names of its files.
"""

import json
import math
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

from anyio import to_thread
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from services.gateway.http.tar import TarReader, refused
from services.gateway.registry.service import described as described_model
from services.gateway.registry.temporary import temporary_folder
from services.gateway.registry.transfer import dimensions_in, write_member
from services.gateway.releases.archives.files import (
    CHECKSUMS,
    LARGEST,
    MODELS,
    MOST_FILES,
    RELEASE,
    SIGNATURE,
    TEMPLATES,
    ReleaseFile,
    as_tar,
    check_release_file,
    verify_checksums,
    with_checksums,
)
from services.gateway.releases.archives.image_layout import as_layout, check_layout_file, is_layout_file, place_files
from services.gateway.releases.archives.signatures import ReleaseKeys, envelope_of, statement_of
from shared.contracts.models import Model, ModelKind, model_hash
from shared.contracts.releases import ModelOrigin, Release, ReleaseContent, ReleaseImport, ReleaseName, ReleaseSigner
from shared.stores.model_files import read_files
from shared.stores.models import ModelStore
from sluice.api import releases as api

__all__ = ["ArchiveFormat", "export_release", "import_release", "release_statement"]

INSTALLATION: Final = frozenset({"stage", "aliases", "events", "signed_by"})
"""What the record of a release says of this installation alone, and what changes: an export has none of it, so that a
release is always the same bytes."""

MOST_MODELS: Final = 8
MOST_METRICS: Final = 100
LONGEST_METRIC: Final = 100
"""Of a model, and characters of the name of one."""


def _bounded(model: ModelOrigin) -> ModelOrigin:
    """Somebody else has written it, and it goes into the record of a model. Raises ValueError."""
    if not re.fullmatch(r"[0-9a-f]{64}", model.hash):
        raise ValueError("the hash of a model has 64 digits of 0-9 and a-f")
    texts = {"base": (model.base, 200), "job": (model.job, 64), "dataset.hash": (model.dataset.hash, 64)}
    for name, (text, longest) in texts.items():
        if len(text) > longest:
            raise ValueError(f"the member {name} of a model has more than {longest} characters")
    if len(model.metrics) > MOST_METRICS or any(len(name) > LONGEST_METRIC for name in model.metrics):
        raise ValueError(f"a model has at most {MOST_METRICS} metrics, whose names have {LONGEST_METRIC} characters")
    if not all(map(math.isfinite, model.metrics.values())):
        raise ValueError("the metrics of a model are finite numbers")
    return model


class _Archived(BaseModel):
    """What is read of an archive's `release.json`."""

    model_config = ConfigDict(extra="ignore")

    name: ReleaseName
    content: ReleaseContent
    models: tuple[Annotated[ModelOrigin, AfterValidator(_bounded)], ...] = ()


class ArchiveFormat(StrEnum):
    """How a release is packed: `tar` with checksums, or `oci`, an OCI image layout."""

    TAR = "tar"
    OCI = "oci"


def release_files(shown: api.Release, models: list[Model], folder: Path) -> list[ReleaseFile]:
    """The files of a release whose models lie below `folder` by their names, or will."""
    said = shown.model_dump_json(indent=1, exclude=set(INSTALLATION))
    files = [ReleaseFile.of(RELEASE, said.encode())]
    files += [
        ReleaseFile.of(f"{TEMPLATES}/{name}", text.encode()) for name, text in sorted(shown.content.templates.items())
    ]
    files += [
        ReleaseFile(
            name=f"{MODELS}/{model.name}/{file.path}",
            size=file.size,
            sha256=file.sha256,
            content=folder / model.name / file.path,
        )
        for model in models
        for file in model.files
    ]
    return files


async def release_statement(models: ModelStore, release: Release, shown: api.Release) -> bytes:
    """What is signed of a release: an in-toto statement with the hash of each of its files.

    `shown` is what the API says of it to somebody who sees everything. Raises Problem MODEL_NOT_FOUND.
    """
    records = [await models.get(release.tenant, one.name) for one in release.models]
    return statement_of(release.name, release_files(shown, records, Path()))


async def export_release(
    models: ModelStore,
    release: Release,
    shown: api.Release,
    form: ArchiveFormat,
    signatures: Sequence[tuple[str, bytes]] = (),
) -> AsyncIterator[bytes]:
    """A release as an archive; `shown` is what the API says of it to somebody who sees everything.

    `signatures` are those of its statement, each with the id of its key. They are not checked: who imports the release
    has the keys for that. Raises Problem MODEL_NOT_FOUND, or INVALID_REQUEST for a damaged file.
    """
    async with temporary_folder() as folder:
        records = [await models.fetch(release.tenant, one.name, folder / one.name) for one in release.models]
        files = release_files(shown, records, folder)
        if signatures:
            files.insert(1, envelope_of(statement_of(release.name, files), signatures))
        if form is ArchiveFormat.OCI:
            packed = as_layout(files, name=release.name, annotations=_annotations(release))
        else:
            packed = with_checksums(files)
        async for piece in as_tar(packed):
            yield piece


def _annotations(release: Release) -> dict[str, str]:
    """Of the manifest, by the names that OCI gives them."""
    created = datetime.fromtimestamp(int(release.created_at), UTC)
    said = {
        "created": created.isoformat().replace("+00:00", "Z"),
        "title": f"Release of the collection {release.content.collection}",
        "version": release.name,
        "description": release.description,
    }
    return {f"org.opencontainers.image.{name}": text for name, text in said.items() if text}


async def import_release(
    models: ModelStore,
    tenant: str,
    pieces: AsyncIterator[bytes],
    *,
    by: str,
    most_bytes: int,
    keys: ReleaseKeys | None = None,
) -> tuple[ReleaseImport, api.ImportedRelease]:
    """Store the models of an archive and read its settings. Nothing is stored before all of it is checked.

    `most_bytes` bounds all files together. With `keys` one of them must have signed it; without, signatures are not
    read. Returns what is remembered of the import, and what the API says of it. Raises Problem INVALID_REQUEST where a
    file is not what its checksum says, or what no model may hold, or where the signature does not fit, and TOO_LARGE.
    """
    async with temporary_folder() as folder:
        files = await _extract(pieces, folder, most_bytes)
        archived = await to_thread.run_sync(_read, folder)
        signers = await to_thread.run_sync(_signers, keys, folder, archived.name, files) if keys else ()
        checked = await to_thread.run_sync(_checked_models, folder, archived, files)
        stored = []
        for one in checked:
            origin = one.origin
            model = await models.put(
                tenant,
                one.folder,
                ModelKind(origin.kind),
                dimensions=one.dimensions,
                base=origin.base,
                job=origin.job,
                dataset=origin.dataset.hash,
                metrics=origin.metrics,
                by=by,
                description=f"Of the release {archived.name[:20]}",
                expected=origin.hash,
            )
            stored.append(described_model(model))
    said = {
        "name": archived.name,
        "content": json.loads(archived.content.model_dump_json(exclude={"table", "collection_id"})),
        "models": tuple(stored),
        "signed_by": tuple(signer.model_dump() for signer in signers),
    }
    known = ReleaseImport(
        name=archived.name, tenant=tenant, content=archived.content, signed_by=signers, created_at=time.time(), by=by
    )
    return known, api.ImportedRelease.model_validate(said)


def _signers(keys: ReleaseKeys, folder: Path, release: str, files: dict[str, str]) -> tuple[ReleaseSigner, ...]:
    signed = {name: digest for name, digest in files.items() if name != SIGNATURE}
    envelope = (folder / SIGNATURE).read_bytes() if SIGNATURE in files else None
    return keys.signers(envelope, release, signed, time.time())


async def _extract(pieces: AsyncIterator[bytes], folder: Path, most_bytes: int) -> dict[str, str]:
    """Write the files of a release into a folder. Returns their hashes by their names."""
    written: dict[str, str] = {}
    layout: bool | None = None
    async for member in TarReader(pieces).members():
        if layout is None:
            layout = is_layout_file(member.name)
        name = check_layout_file(member.name) if layout else _checked(member.name)
        if name in written:
            raise refused(f"'{name}' is in it twice.")
        if len(written) == MOST_FILES or (name in (RELEASE, SIGNATURE, CHECKSUMS) and member.size > LARGEST):
            raise refused("It has too many files, or one that is too large.")
        written[name] = await write_member(member, folder / name)
    if layout:
        return await to_thread.run_sync(place_files, folder, written, most_bytes)
    return await to_thread.run_sync(verify_checksums, folder, written)


def _checked(name: str) -> str:
    return name if name == CHECKSUMS else check_release_file(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _CheckedModel:
    """A model of an archive whose files are what the release says. `dimensions` are those of an embedder."""

    origin: ModelOrigin
    folder: Path
    dimensions: int | None


def _checked_models(folder: Path, archived: _Archived, files: dict[str, str]) -> list[_CheckedModel]:
    """Raises Problem INVALID_REQUEST. Reads all of it in the calling thread."""
    named = {origin.name for origin in archived.models}
    there = {name.split("/")[1] for name in files if name.startswith(f"{MODELS}/")}
    if strange := sorted(there ^ named):
        known = "has no files in it" if strange[0] in named else f"is in it, and not named in its {RELEASE}"
        raise refused(f"The model '{strange[0][:80]}' {known}.")
    checked = []
    for origin in archived.models:
        place = folder / MODELS / origin.name
        if (found := model_hash(read_files(place))) != origin.hash:
            raise refused(f"The model '{origin.name}' has the hash {found[:16]}… and not {origin.hash[:16]}….")
        dimensions = dimensions_in(place) if origin.kind is ModelKind.EMBEDDER else None
        checked.append(_CheckedModel(origin=origin, folder=place, dimensions=dimensions))
    return checked


def _read(folder: Path) -> _Archived:
    try:
        data: Any = json.loads((folder / RELEASE).read_text("utf-8"))
        content = {"collection_id": "-", "table": "-", **data["content"]}
        archived = _Archived.model_validate({**data, "content": content})
    except (ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
        raise refused(f"Its {RELEASE} cannot be read: {str(error)[:1000]}") from None
    if len(archived.models) > MOST_MODELS:
        raise refused(f"It has more than {MOST_MODELS} models.")
    return archived
