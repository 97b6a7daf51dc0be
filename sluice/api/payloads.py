"""Requests and responses of models that are logged."""

from typing import Annotated

from pydantic import JsonValue

from sluice.api.base import Schema, Sent, Timestamp, closed_set

__all__ = ["Payload", "PayloadPage"]


class Payload(Schema):
    """A request to a model, or its response, which has the same `id`: that of the query, where it is one query.

    `seq` grows with each payload. `reader` is who has asked, and `key` the API key. `size` are the bytes of all
    tensors. `data` is as in version 2 of the Open Inference Protocol; `truncated` says that it does not hold all of it.
    """

    seq: int
    id: str
    kind: Annotated[str, closed_set("request", "response")]
    model: str
    version: str = ""
    at: Sent[Timestamp] = None
    reader: str = ""
    key: str = ""
    size: int = 0
    truncated: bool = False
    data: JsonValue = None


class PayloadPage(Schema):
    """Payloads, the last logged first; `next` is the `before` of the following page, None at the end."""

    payloads: tuple[Payload, ...] = ()
    next: int | None = None
