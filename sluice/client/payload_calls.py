"""The operation of the HTTP API on logged payloads of models. See `calls`."""

from sluice.api.payloads import PayloadPage
from sluice.client import read
from sluice.client.call import Call
from sluice.client.read import get, pairs

__all__ = ["payloads"]


def payloads(
    model: str | None = None,
    *,
    kind: str | None = None,
    call: str | None = None,
    limit: int = 20,
    before: int | None = None,
) -> Call[PayloadPage]:
    """One page of the requests and responses of models that are logged, the last first; `kind` is one of the two.

    `call` is the `id` that a request has in common with its response. It takes an admin's key.
    """
    params = pairs(model=model, kind=kind, id=call, limit=limit, before=before)
    return get("/v1/payloads", params=params, parse=read.model(PayloadPage))
