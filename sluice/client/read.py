"""How calls are made and their responses read."""

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter

from sluice.api.base import Listing
from sluice.api.jobs import Job
from sluice.client.call import Call
from sluice.client.encode import check_text

__all__ = ["get", "listing", "model", "nothing", "pairs", "segment", "submitted"]

T = TypeVar("T")


def get(
    path: str,
    *,
    parse: Callable[[httpx.Response], T],
    params: tuple[tuple[str, str], ...] = (),
    timeout: float | None = None,
) -> Call[T]:
    """A call that reads."""
    return Call(method="GET", path=path, params=params, parse=parse, timeout=timeout, safe=True)


def segment(text: str) -> str:
    """A text as one segment of a path. Raises a `SluiceError` for one that is not valid UTF-8."""
    check_text(text)
    return quote(text, safe="")


def pairs(**values: str | int | None) -> tuple[tuple[str, str], ...]:
    """The query parameters that are not None."""
    return tuple((name, str(value)) for name, value in values.items() if value is not None)


def model(kind: type[T]) -> Callable[[httpx.Response], T]:
    """Reads a response that is one model."""
    return lambda response: TypeAdapter(kind).validate_json(response.content)


def listing(kind: type[T], key: str) -> Callable[[httpx.Response], list[T]]:
    """Reads a response that holds a list of models."""
    adapter = TypeAdapter(list[kind])  # type: ignore[valid-type]
    return lambda response: Listing(adapter.validate_python(response.json()[key]))


def submitted(response: httpx.Response) -> Job:
    """Reads the job that a request has made."""
    return Job.model_validate(response.json()["job"])


def nothing(_: httpx.Response) -> None:
    """Reads no response."""
