"""Tensors that are too large for a message: one object holds the data of all tensors of a request or a response."""

import secrets
from collections.abc import Iterator
from typing import Final

from nats.js import JetStreamContext
from nats.js.errors import ObjectNotFoundError
from nats.js.object_store import ObjectStore

from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import InferRequest, InferResponse, Tensor
from shared.nats.objects import check_owner, owned_name, read_object
from shared.nats.subjects import TENSORS

__all__ = ["INLINE", "TensorStore"]

INLINE: Final = 256 * 1024
"""Bytes of tensors that travel in the message itself: base64 makes a third more of them, and a message has 1 MB."""


class TensorStore:
    """Takes tensors out of a message that is too large, and puts them back. Methods raise nats errors.

    What nobody drops goes by itself, some time after any query's deadline.
    """

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._js = jetstream
        self._store: ObjectStore | None = None

    async def pack_request(self, tenant: str, request: InferRequest) -> InferRequest:
        tensors, stored = await self._pack(tenant, request.inputs)
        return request if stored is None else request.model_copy(update={"inputs": tensors, "stored": stored})

    async def pack_response(self, tenant: str, response: InferResponse) -> InferResponse:
        tensors, stored = await self._pack(tenant, response.outputs)
        return response if stored is None else response.model_copy(update={"outputs": tensors, "stored": stored})

    async def unpack_request(self, tenant: str, request: InferRequest) -> InferRequest:
        """Raises Problem NOT_FOUND where the tensors are not there any more."""
        if request.stored is None:
            return request
        tensors = await self._unpack(tenant, request.inputs, request.stored)
        return request.model_copy(update={"inputs": tensors, "stored": None})

    async def unpack_response(self, tenant: str, response: InferResponse) -> InferResponse:
        """Raises Problem NOT_FOUND where the tensors are not there any more."""
        if response.stored is None:
            return response
        tensors = await self._unpack(tenant, response.outputs, response.stored)
        return response.model_copy(update={"outputs": tensors, "stored": None})

    async def drop(self, tenant: str, stored: str | None) -> None:
        """Nobody reads the object any more."""
        if stored is not None:
            try:
                await (await self._open()).delete(check_owner(tenant, stored))
            except ObjectNotFoundError:
                return

    async def _pack(self, tenant: str, tensors: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], str | None]:
        if sum(len(tensor.data) for tensor in tensors) <= INLINE:
            return tensors, None
        # A name of its own for each try: the stage may do the same work twice at once.
        name = owned_name(tenant, secrets.token_hex(16))
        await (await self._open()).put(name, b"".join(tensor.data for tensor in tensors))
        bare = tuple(tensor.model_copy(update={"data": b"", "size": len(tensor.data)}) for tensor in tensors)
        return bare, name

    async def _unpack(self, tenant: str, tensors: tuple[Tensor, ...], stored: str) -> tuple[Tensor, ...]:
        try:
            data = await read_object(await self._open(), check_owner(tenant, stored))
        except ObjectNotFoundError:
            raise Problem(ProblemType.NOT_FOUND, "The tensors of this request are not kept any more.") from None
        return tuple(_filled(tensors, data))

    async def _open(self) -> ObjectStore:
        if self._store is None:
            self._store = await self._js.object_store(TENSORS)
        return self._store


def _filled(tensors: tuple[Tensor, ...], data: bytes) -> Iterator[Tensor]:
    at = 0
    for tensor in tensors:
        size = tensor.size or 0
        yield tensor.model_copy(update={"data": data[at : at + size], "size": None})
        at += size
