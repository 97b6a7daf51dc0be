"""Releases as an OCI image layout (image specification 1.1), which registries and their tools take.

A release is one manifest. Its `artifactType` says what it is, its config is `release.json`, and each other file is a
layer as it is: no archive and no compression, so no layer has to be unpacked to be checked. A layer's title is the
file's name, as ORAS has it. Anybody may have made what is read here: what a descriptor says of a blob is compared with
the blob, and everything is bounded before it is parsed.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.gateway.http.tar import refused
from services.gateway.releases.archives.files import (
    LARGEST,
    MODELS,
    MOST_FILES,
    RELEASE,
    SIGNATURE,
    ReleaseFile,
    check_release_file,
)
from shared.contracts.problems import Problem, ProblemType

__all__ = ["ARTIFACT", "as_layout", "check_layout_file", "is_layout_file", "place_files"]

LAYOUT: Final = "oci-layout"
INDEX: Final = "index.json"
BLOBS: Final = "blobs/sha256"
BLOB: Final = re.compile(r"blobs/sha256/[0-9a-f]{64}")

ARTIFACT: Final = "application/vnd.sluice.release.v1+json"
CONFIG: Final = "application/vnd.sluice.release.config.v1+json"
WEIGHTS: Final = "application/vnd.sluice.model.weights.v1.safetensors"
MODEL_FILE: Final = "application/vnd.sluice.model.file.v1"
TEMPLATE: Final = "application/vnd.sluice.template.v1"
ENVELOPE: Final = "application/vnd.dsse.envelope.v1+json"

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
IMAGE_INDEX: Final = "application/vnd.oci.image.index.v1+json"
EMPTY: Final = "application/vnd.oci.empty.v1+json"
NOTHING: Final = b"{}"
"""The bytes of an empty descriptor's blob: a manifest has at least one layer."""

TITLE: Final = "org.opencontainers.image.title"
REF: Final = "org.opencontainers.image.ref.name"
VERSION: Final = "1.0.0"
"""Of the layout; specification 1.1 has the same."""

LARGEST_MANIFEST: Final = 4 * 2**20
"""Bytes of a manifest or an index: the most that registries take."""

MOST_MANIFESTS: Final = 100


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


Document = TypeVar("Document", bound=_Read)


class _Layout(_Read):
    version: Annotated[str, Field(alias="imageLayoutVersion")]


class _Descriptor(_Read):
    media_type: Annotated[str, Field(alias="mediaType", max_length=255)]
    digest: Annotated[str, Field(max_length=200)]
    size: Annotated[int, Field(ge=0, lt=2**63)]
    annotations: dict[str, str] = {}


class _Index(_Read):
    schema_version: Annotated[Literal[2], Field(alias="schemaVersion")]
    media_type: Annotated[Literal["application/vnd.oci.image.index.v1+json"], Field(alias="mediaType")] = IMAGE_INDEX
    manifests: Annotated[tuple[_Descriptor, ...], Field(max_length=MOST_MANIFESTS, strict=False)]


class _Manifest(_Read):
    schema_version: Annotated[Literal[2], Field(alias="schemaVersion")]
    media_type: Annotated[Literal["application/vnd.oci.image.manifest.v1+json"], Field(alias="mediaType")] = MANIFEST
    artifact_type: Annotated[str, Field(alias="artifactType")] = ""
    config: _Descriptor
    layers: Annotated[tuple[_Descriptor, ...], Field(max_length=MOST_FILES, strict=False)] = ()


def as_layout(files: Sequence[ReleaseFile], *, name: str, annotations: Mapping[str, str]) -> list[ReleaseFile]:
    """The files of a layout with these files of a release, which is tagged with its name. The same are the same bytes.

    `annotations` are those of the manifest.
    """
    by_name = {file.name: file for file in files}
    config = by_name.pop(RELEASE)
    layers = [_descriptor(_media_type(file.name), file, {TITLE: file.name}) for file in by_name.values()]
    blobs = [config, *by_name.values()]
    if not layers:
        blobs.append(ReleaseFile.of("", NOTHING))
        layers = [_descriptor(EMPTY, blobs[-1])]
    manifest = _json(
        "",
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": ARTIFACT,
            "config": _descriptor(CONFIG, config),
            "layers": layers,
            "annotations": dict(annotations),
        },
    )
    listed = {**_descriptor(MANIFEST, manifest, {REF: name}), "artifactType": ARTIFACT}
    index = _json(INDEX, {"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": [listed]})
    # Files of the same content are one blob.
    unique = {blob.sha256: blob for blob in (manifest, *blobs)}
    return [
        _json(LAYOUT, {"imageLayoutVersion": VERSION}),
        index,
        *(
            ReleaseFile(name=f"{BLOBS}/{digest}", size=blob.size, sha256=digest, content=blob.content)
            for digest, blob in unique.items()
        ),
    ]


def is_layout_file(name: str) -> bool:
    """Whether an archive with this file is a layout."""
    return name in (LAYOUT, INDEX) or name.startswith("blobs/")


def check_layout_file(name: str) -> str:
    """The name of a file that a layout may have. Raises Problem INVALID_REQUEST."""
    if name in (LAYOUT, INDEX) or BLOB.fullmatch(name):
        return name
    if name.startswith("blobs/"):
        raise refused(f"{name[:80]!r} is not a blob here: these are named by their SHA-256, as {BLOBS}/<64 digits>.")
    raise refused(f"{name[:80]!r} is no part of an OCI image layout.")


def place_files(folder: Path, written: Mapping[str, str], most_bytes: int) -> dict[str, str]:
    """Put the files of the one release of a layout beside it, by their names. Returns their hashes by these.

    `written` are the hashes of the layout's files. Reads in the calling thread. Raises Problem INVALID_REQUEST where
    the layout is not whole, says something else than its blobs, or is not of one release, and TOO_LARGE where the files
    have more than `most_bytes`: one blob may be many files.
    """
    for path, digest in written.items():
        if path.startswith(BLOBS) and path != f"{BLOBS}/{digest}":
            raise refused(f"The blob '{path[-64:][:16]}…' has other bytes: their SHA-256 is {digest[:16]}….")
    manifest = _release_of(folder, written)
    placed: dict[str, str] = {}
    total = 0
    for name, file in _named(manifest):
        if name in placed:
            raise refused(f"'{name}' is in it twice.")
        blob = _blob(folder, file)
        total += file.size
        if total > most_bytes:
            detail = f"The files of the release have more than the {most_bytes:,} bytes allowed here."
            raise Problem(ProblemType.TOO_LARGE, detail, limit=most_bytes)
        if name in (RELEASE, SIGNATURE) and file.size > LARGEST:
            raise refused(f"Its {name} has more than {LARGEST:,} bytes.")
        _place(blob, folder / name, name)
        placed[name] = blob.name
    return placed


def _release_of(folder: Path, written: Mapping[str, str]) -> _Manifest:
    if missing := {LAYOUT, INDEX} - written.keys():
        raise refused(f"It has no {', '.join(sorted(missing))}, so it is not an OCI image layout.")
    if (version := _read(folder / LAYOUT, LAYOUT, _Layout).version) != VERSION:
        raise refused(f"Its layout has the version {version[:20]!r}; {VERSION} is read here.")
    found = []
    for listed in _read(folder / INDEX, INDEX, _Index).manifests:
        if listed.media_type != MANIFEST:
            continue
        manifest = _read(_blob(folder, listed), f"manifest {listed.digest[7:23]}…", _Manifest)
        if ARTIFACT in (manifest.artifact_type, manifest.config.media_type):
            found.append((listed, manifest))
    if not found:
        raise refused(f"It has no manifest with the artifactType {ARTIFACT}, so it is not the export of a release.")
    if len({listed.digest for listed, _ in found}) > 1:
        names = ", ".join(listed.annotations.get(REF, listed.digest)[:20] for listed, _ in found[:5])
        raise refused(f"It has {len(found)} releases ({names}). Copy one of them into a layout of its own.")
    return found[0][1]


def _named(manifest: _Manifest) -> Iterator[tuple[str, _Descriptor]]:
    """The descriptors of a release's files by the names of these."""
    if manifest.config.media_type != CONFIG:
        raise refused(f"Its config has the media type {manifest.config.media_type[:80]!r} and not {CONFIG}.")
    yield RELEASE, manifest.config
    for layer in manifest.layers:
        if layer.media_type == EMPTY:
            continue
        title = layer.annotations.get(TITLE, "")
        name = check_release_file(title)
        if name == RELEASE:
            raise refused(f"'{RELEASE}' is a layer; it is the config of a release.")
        if layer.media_type != _media_type(name):
            raise refused(
                f"The layer '{name[:80]}' has the media type {layer.media_type[:80]!r} and not {_media_type(name)}. "
                "Layers are files as they are, without compression."
            )
        yield name, layer


def _blob(folder: Path, descriptor: _Descriptor) -> Path:
    """Where a blob lies whose bytes are what its descriptor says."""
    algorithm, _, digest = descriptor.digest.partition(":")
    path = f"{BLOBS}/{digest}"
    if algorithm != "sha256" or not BLOB.fullmatch(path):
        raise refused(f"The digest {descriptor.digest[:80]!r} is not one of SHA-256.")
    blob = folder / path
    if not blob.is_file():
        raise refused(f"The blob {descriptor.digest[:23]}… is missing. Copy the whole layout.")
    if (size := blob.stat().st_size) != descriptor.size:
        raise refused(f"The blob {descriptor.digest[:23]}… has {size:,} bytes instead of {descriptor.size:,}.")
    return blob


def _place(blob: Path, target: Path, name: str) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(blob, target)
        except (FileExistsError, NotADirectoryError):
            raise
        except OSError:  # a file system without links
            shutil.copyfile(blob, target)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise refused(f"'{name}' is both a file and a folder.") from None


def _read(path: Path, label: str, kind: type[Document]) -> Document:
    if path.stat().st_size > LARGEST_MANIFEST:
        raise refused(f"Its {label} has more than {LARGEST_MANIFEST:,} bytes.")
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))[:80]
        raise refused(f"Its {label} cannot be read: {place + ': ' if place else ''}{first['msg'][:200]}.") from None


def _media_type(name: str) -> str:
    if name.startswith(f"{MODELS}/"):
        return WEIGHTS if name.endswith(".safetensors") else MODEL_FILE
    return ENVELOPE if name == SIGNATURE else TEMPLATE


def _descriptor(media_type: str, blob: ReleaseFile, annotations: Mapping[str, str] | None = None) -> dict[str, Any]:
    said: dict[str, Any] = {"mediaType": media_type, "digest": f"sha256:{blob.sha256}", "size": blob.size}
    return {**said, "annotations": dict(annotations)} if annotations else said


def _json(name: str, said: Mapping[str, Any]) -> ReleaseFile:
    return ReleaseFile.of(name, json.dumps(said, sort_keys=True, separators=(",", ":")).encode())
