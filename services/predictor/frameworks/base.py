"""The protocol of a framework, and of a model that it has loaded.

The order of calls: `prepare` once, before the first model; `load` for a model; `predict` any number of times, one at a
time; `close`. All are called in worker threads and may block. Several models are loaded and called at once.
"""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy.typing as npt
from pydantic import JsonValue

from shared.contracts.tensors import TensorSpec

__all__ = [
    "Array",
    "Arrays",
    "Framework",
    "FrameworkOptions",
    "InvalidInputError",
    "LoadedModel",
    "ModelFiles",
    "NotLoadableError",
    "Signature",
    "package",
    "refusing",
]

Array = npt.NDArray[Any]
"""A tensor. Elements of BYTES are `bytes` in an array of objects; of BF16, float32."""

Arrays = Mapping[str, Array]


class NotLoadableError(Exception):
    """A model that cannot be loaded: the message says why, to whoever put it into the repository."""


class InvalidInputError(ValueError):
    """An input that the model cannot take: the message says why, to the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameworkOptions:
    """What the operator allows. `threads` of one call: 0 are all CPUs."""

    threads: int = 0
    allow_pickle: bool = False
    allow_code: bool = False
    trusted_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A version of a model on disk. `inputs` and `outputs` are those of its configuration, empty where it names none;
    `parameters` are the configuration's, for the framework. `batches`: the configuration says that requests may be
    joined."""

    name: str
    version: str
    folder: Path
    file: Path
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    batches: bool = False
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a model takes and gives.

    `rows`: the first dimension of every tensor counts rows that do not depend on each other, so requests may be joined.
    `strict`: a request must have the names, datatypes and shapes of `inputs`; otherwise only as many inputs.
    `default_outputs` are given where a request names none; all, if None. `most_rows` are those that one call can have.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    rows: bool
    strict: bool = True
    default_outputs: tuple[str, ...] | None = None
    optional: frozenset[str] = frozenset()
    most_rows: int | None = None


class LoadedModel(Protocol):
    @property
    def signature(self) -> Signature: ...

    def predict(self, inputs: Arrays, outputs: tuple[str, ...], parameters: Mapping[str, JsonValue], /) -> Arrays:
        """The outputs of these names, those among them that the model has. Raises InvalidInputError where the input is
        to blame, and else what the framework raises."""

    def close(self) -> None:
        """Release what the model holds. Called once; no other call follows."""


class Framework(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def platform(self) -> str:
        """What the protocol's metadata call it."""

    @property
    def files(self) -> tuple[str, ...]:
        """The names under which a model's file is looked for, in this order; `*.ext` is the only file with it."""

    def prepare(self) -> None:
        """Import what every model needs. Raises NotLoadableError where a package is missing."""

    def load(self, files: ModelFiles, options: FrameworkOptions) -> LoadedModel:
        """Raises NotLoadableError, or what the framework raises."""


@contextmanager
def refusing(*kinds: type[Exception]) -> Iterator[None]:
    """For a call whose errors of these kinds say that its input is wrong. Raises InvalidInputError for them."""
    try:
        yield
    except InvalidInputError:
        raise
    except kinds as error:
        raise InvalidInputError(str(error) or type(error).__name__) from error


def package(module: str, distribution: str, framework: str, extra: str = "predictor") -> ModuleType:
    """The module of a framework. Raises NotLoadableError, which says how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise NotLoadableError(
            f"{framework} needs the package {distribution}, which is not installed here ({error}): "
            f"pip install '{distribution}', or install sluice[{extra}]"
        ) from None
