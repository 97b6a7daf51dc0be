"""What is in the folder of the model repository.

A model is a folder, and each of its versions a folder in it whose name is a number: `<model>/<version>/model.onnx`. A
model without such folders has one version, `1`, which is the folder itself.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.predictor.frameworks.base import Framework, NotLoadableError
from services.predictor.frameworks.registry import find_file, framework_named
from services.predictor.repository.config import Latest, ModelConfig, read_config
from services.predictor.repository.walk import walk
from shared.contracts.inference import BUILT_IN_MODELS, MODEL_NAME
from shared.reasons import told

__all__ = ["MOST_FILES", "NAME", "ModelFolder", "ModelVersionFiles", "Stamp", "read_model", "stamp_of"]

VERSION: Final = re.compile(r"[0-9]{1,18}")
NAME: Final = re.compile(MODEL_NAME)
ONLY_VERSION: Final = "1"

MOST_FILES: Final = 10_000
"""Files and folders of one model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What changes with a model's files: a `digest` of their names, sizes and times; the `newest` time, in Unix
    seconds; and the bytes of all. `problem` says why they are not to be read."""

    digest: str
    newest: float
    size: int
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersionFiles:
    """A version that is served. `problem` says why it cannot be loaded, where its files tell; otherwise it has a
    framework and a file."""

    model: str
    version: str
    folder: Path
    stamp: str
    size: int
    config: ModelConfig
    framework: Framework | None = None
    file: Path | None = None
    problem: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """The same for the same files."""
        return self.model, self.version, self.stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A model with the versions that are served, the newest first. `problem` says why there are none. Where the newest
    are served, `standby` is the one before them: it answers while none of them can be loaded."""

    name: str
    stamp: Stamp
    config: ModelConfig = field(default_factory=ModelConfig)
    versions: tuple[ModelVersionFiles, ...] = ()
    standby: tuple[ModelVersionFiles, ...] = ()
    problem: str = ""


def stamp_of(folder: Path, within: Path | None = None) -> Stamp:
    """Links may lead to what is `within` this folder, or within the first itself. Raises OSError where a file goes
    meanwhile."""
    digest, newest, size, count = hashlib.blake2b(digest_size=16), 0.0, 0, 0
    problem = ""
    for each in walk(folder, within or folder):
        digest.update(each.told_apart)
        if each.status is not None:
            newest = max(newest, each.status.st_mtime, each.status.st_ctime)
            size += each.status.st_size
        problem, count = each.problem or problem, count + 1
        if problem or count > MOST_FILES:
            break
    return Stamp(digest=digest.hexdigest(), newest=newest, size=size, problem=problem)


def read_model(folder: Path, stamp: Stamp) -> ModelFolder:
    """Never raises for what is wrong with a model: it says so."""
    name = folder.name
    if not NAME.fullmatch(name):
        return ModelFolder(name=name, stamp=stamp, problem="its name is not one: letters, digits, '.', '_' and '-'")
    if stamp.problem:
        return ModelFolder(name=name, stamp=stamp, problem=stamp.problem)
    if name in BUILT_IN_MODELS:
        return ModelFolder(name=name, stamp=stamp, problem=f"the name '{name}' is that of a model of Sluice's own")
    try:
        config = read_config(folder)
        framework = framework_named(config.framework) if config.framework else None
        folders = _version_folders(folder)
    except (NotLoadableError, OSError) as error:
        return ModelFolder(name=name, stamp=stamp, problem=told(str(error), folder))
    served, standby = _served(config, tuple(folders))

    def read(chosen: tuple[str, ...]) -> tuple[ModelVersionFiles, ...]:
        return tuple(_read_version(name, version, folders[version], folder, config, framework) for version in chosen)

    problem = "" if served else f"it has no version that is served; it has {', '.join(folders)}"
    return ModelFolder(
        name=name, stamp=stamp, config=config, versions=read(served), standby=read(standby), problem=problem
    )


def _version_folders(folder: Path) -> Mapping[str, Path]:
    """By version, the newest first."""
    found = [entry for entry in folder.iterdir() if VERSION.fullmatch(entry.name) and entry.is_dir()]
    found.sort(key=lambda entry: int(entry.name), reverse=True)
    return {entry.name: entry for entry in found} or {ONLY_VERSION: folder}


def _served(config: ModelConfig, versions: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those that are served, and the one that stands by."""
    match config.versions:
        case "all":
            return versions, ()
        case Latest(latest=count):
            return versions[:count], versions[count : count + 1]
        case named:
            return tuple(version for version in versions if version in named), ()


def _read_version(
    model: str, version: str, folder: Path, within: Path, config: ModelConfig, framework: Framework | None
) -> ModelVersionFiles:
    found: tuple[Framework, Path] | None = None
    problem, digest, size = "", "", 0
    try:
        stamp = stamp_of(folder, within)
        # A change of the configuration makes every version another one.
        written = config.model_dump_json().encode()
        digest = hashlib.blake2b(stamp.digest.encode() + written, digest_size=16).hexdigest()
        size = stamp.size
        found = find_file(folder, framework, config.file)
    except (NotLoadableError, OSError) as error:
        problem = told(str(error), folder)
    return ModelVersionFiles(
        model=model,
        version=version,
        folder=folder,
        stamp=digest,
        size=size,
        config=config,
        framework=found[0] if found else None,
        file=found[1] if found else None,
        problem=problem,
    )
