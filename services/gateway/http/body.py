"""Reads request bodies within limits, and refuses pages of other sites."""

import asyncio
import json
import math
import re
import time
from collections.abc import AsyncIterator
from typing import Final, TypeVar

from anyio import to_thread
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from services.gateway.http.problems import ClientLeftError, invalid_request
from services.gateway.http.validation import validated
from services.gateway.state import state_of
from shared.contracts.problems import Problem, ProblemType

__all__ = ["read_bounded", "media_type", "read_json", "refuse_other_sites"]

Model = TypeVar("Model", bound=BaseModel)

SMALL: Final = 64 * 1024

UNUSUAL_NUMBER: Final = re.compile(rb"NaN|Infinity|[0-9][eE]\+?[0-9]{3}|(?<![0-9])[0-9]{300}")
"""Only a body that matches can hold a number that JSON or a double does not have; the others are parsed once. Digits
are counted from the first of them only: the search stays linear."""


async def refuse_other_sites(request: Request) -> None:
    """For requests that a browser sends across sites without a preflight. Raises HTTPException 403."""
    allowed = state_of(request).settings.origins
    if request.headers.get("sec-fetch-site") == "cross-site" and request.headers.get("origin") not in allowed:
        raise HTTPException(403, "A page of another site may not do this.")


def media_type(request: Request) -> str:
    """The media type of the body without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_bounded(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body piece by piece. Raises Problem TOO_LARGE, at once where its declared length is too large.

    Raises Problem TOO_SLOW when no data arrives for long, or not all of it in time, and ClientLeftError when the
    client disconnects before the end.
    """
    settings = state_of(request).settings
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    received, ends = 0, time.monotonic() + settings.body_seconds
    pieces = request.stream()
    while True:
        try:
            async with asyncio.timeout(min(settings.body_idle_seconds, ends - time.monotonic())):
                piece = await anext(pieces, None)
        except ClientDisconnect:
            raise ClientLeftError from None
        except TimeoutError:
            raise _too_slow(received) from None
        if piece is None:
            return
        received += len(piece)
        if received > limit:
            raise _too_large(limit)
        yield piece


async def read_json(request: Request, model: type[Model], limit: int) -> Model:
    """The body as a model. Raises Problem INVALID_REQUEST or TOO_LARGE.

    Only `application/json` is taken: a browser sends it across origins only with permission, which no site gets.
    """
    if media_type(request) != "application/json":
        raise Problem(ProblemType.INVALID_REQUEST, "Send the body as JSON, with 'Content-Type: application/json'.")
    body = b"".join([chunk async for chunk in read_bounded(request, limit)])
    # Parsing a large one takes long, and others would wait.
    return _parsed(model, body) if len(body) <= SMALL else await to_thread.run_sync(_parsed, model, body)


def _parsed(model: type[Model], body: bytes) -> Model:
    try:
        parsed = validated(model, body)
        if UNUSUAL_NUMBER.search(body):
            json.loads(body, parse_constant=_reject_number, parse_float=_finite_number)
    except ValidationError as error:
        raise invalid_request(error.errors(include_url=False, include_input=False)) from None
    return parsed


def _finite_number(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _reject_number(text)


def _reject_number(text: str) -> float:
    detail = f"The body has the number {text[:20]}, which JSON does not have or which is too large for a double."
    raise Problem(ProblemType.INVALID_REQUEST, detail)


def _too_slow(received: int) -> Problem:
    detail = f"The request body ended early, after {received:,} bytes, or arrived too slowly. Send it again."
    return Problem(ProblemType.TOO_SLOW, detail, headers={"Connection": "close"})


def _too_large(limit: int) -> Problem:
    return Problem(ProblemType.TOO_LARGE, f"The body is larger than the {limit:,} bytes allowed here.", limit=limit)
