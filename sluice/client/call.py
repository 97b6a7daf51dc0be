"""A `Call`: one request and the way to read its response, without I/O."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx

__all__ = ["Call", "Upload", "as_method"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A document to send: the name it has in the collection (may contain "/") and its bytes."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request. `chunks` gives the body piece by piece, anew for each try. `safe` says that sending it twice does
    no more than sending it once."""

    method: str
    path: str
    parse: Callable[[httpx.Response], T]
    params: tuple[tuple[str, str], ...] = ()
    body: Any = None
    content: bytes | None = None
    chunks: Callable[[], Iterator[bytes]] | None = None
    files: tuple[Upload, ...] = ()
    form: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    safe: bool = False


def as_method(method: Callable[..., Any], build: Callable[..., Any]) -> None:
    """Give a client's method the name, documentation and arguments of the function that builds its call."""
    signature = inspect.signature(build)
    myself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__name__ = method.__qualname__ = build.__name__
    method.__doc__ = build.__doc__
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[myself, *signature.parameters.values()], return_annotation=inspect.Signature.empty
    )
