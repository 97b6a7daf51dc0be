"""Logs payloads: those that are chosen, cut to size and redacted."""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from prometheus_client import Counter

from services.gateway.answers.redaction import Redactor, redacted
from services.gateway.background import BackgroundWriter, persistently
from services.gateway.context import RequestContext
from services.gateway.payloads.body import clipped, payload_json
from services.gateway.settings import GatewaySettings, PayloadLogging
from shared.contracts.draws import uniform
from shared.contracts.inference import MODEL_NAME
from shared.contracts.payloads import InferencePayload, PayloadKind
from shared.contracts.tensors import InferRequest, InferResponse, Tensor
from shared.stores.payload_log import PayloadLog

__all__ = ["LoggedCall", "PayloadRecorder"]

log = logging.getLogger(__name__)

OUTCOMES = Counter(
    "sluice_gateway_payloads_total",
    "Payloads of inferences that were to be logged, by what became of it: logged, no-room or failed.",
    ("outcome",),
)

ROOM: Final = 500
MOST_BYTES: Final = 32 * 2**20
"""Payloads that wait to be written, and bytes of their tensors."""

WRITERS: Final = 16

SMALL: Final = 16 * 1024
"""Bytes of tensors whose JSON is made within a millisecond: less than a thread costs."""

KINDS: Final = {
    PayloadLogging.NONE: (),
    PayloadLogging.REQUESTS: (PayloadKind.REQUEST,),
    PayloadLogging.RESPONSES: (PayloadKind.RESPONSE,),
    PayloadLogging.ALL: (PayloadKind.REQUEST, PayloadKind.RESPONSE),
}


def _new_id() -> str:
    return f"{time.time_ns() // 1_000_000:011x}{secrets.token_hex(6)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedCall:
    """A call of a model. `id` is that of its query, where it is one query; `began` is Unix seconds."""

    id: str = field(default_factory=_new_id)
    began: float = field(default_factory=time.time)
    model: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """A payload whose JSON is not made yet: that of the tensors of `inference`, which may be cut."""

    payload: InferencePayload
    inference: InferRequest | InferResponse
    held: int


class PayloadRecorder:
    """The payloads of this gateway on their way to the broker."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._kinds = KINDS[settings.payloads]
        self._tenants = settings.logged_tenants
        self._models = settings.logged_models
        self._sample = settings.payload_sample
        self._longest = settings.max_payload_bytes
        self._elements = not settings.payload_metadata_only
        self._redactor: Redactor | None = settings.redactor
        # Threads of its own, as a slow redactor would hold up whatever else waits for one.
        self._threads = ThreadPoolExecutor(1, "payloads")
        writers = WRITERS if self._kinds else 0
        self._writer = BackgroundWriter[_Waiting]("a payload", room=ROOM, writers=writers, outcomes=OUTCOMES)
        self._held = 0

    def log(
        self, call: LoggedCall, context: RequestContext, request: InferRequest, response: InferResponse | None
    ) -> None:
        """Log a call soon, with its response if it has one, unless it is not chosen or too many wait already."""
        if not self._chosen(call, context.tenant):
            return
        try:
            if PayloadKind.REQUEST in self._kinds:
                self._put(PayloadKind.REQUEST, call, context, request, request.inputs)
            if PayloadKind.RESPONSE in self._kinds and response is not None:
                self._put(PayloadKind.RESPONSE, call, context, response, response.outputs)
        except Exception:
            log.exception("a payload is not logged", extra={"model": call.model})
            self._writer.fail()

    async def written(self) -> None:
        """Wait until what waits now is written, or has failed."""
        await self._writer.written()

    @asynccontextmanager
    async def running(self, store: PayloadLog) -> AsyncIterator[None]:
        """Write for as long as the block runs, and a moment longer what waits at its end."""
        try:
            async with self._writer.running(partial(self._write, store)):
                yield
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _chosen(self, call: LoggedCall, tenant: str) -> bool:
        """Of a share it is the same calls for requests and responses, and for every gateway: the id draws them."""
        return (
            bool(self._kinds)
            and (not self._tenants or tenant in self._tenants)
            and (not self._models or call.model in self._models)
            and re.fullmatch(MODEL_NAME, call.model) is not None
            and (self._sample >= 1 or uniform(call.id, "payloads") < self._sample)
        )

    def _put(
        self,
        kind: PayloadKind,
        call: LoggedCall,
        context: RequestContext,
        inference: InferRequest | InferResponse,
        tensors: tuple[Tensor, ...],
    ) -> None:
        kept = clipped(tensors, self._longest if self._elements else 0, redacted=self._redactor is not None)
        held = sum(len(tensor.data) for tensor in kept)
        if self._held + held > MOST_BYTES:
            self._writer.refuse()
            return
        is_request = kind is PayloadKind.REQUEST
        size = sum(len(tensor.data) for tensor in tensors)
        payload = InferencePayload(
            id=call.id,
            kind=kind,
            tenant=context.tenant,
            model=call.model,
            version=inference.version if isinstance(inference, InferResponse) else call.version,
            at=call.began if is_request else time.time(),
            reader=context.principal.reader,
            key=context.principal.key,
            size=size,
            truncated=self._elements and held < size,
        )
        cut = inference.model_copy(update={"inputs" if is_request else "outputs": kept})
        if self._writer.put(_Waiting(payload=payload, inference=cut, held=held)):
            self._held += held

    async def _write(self, store: PayloadLog, waiting: _Waiting) -> str:
        """Of what cannot be redacted nothing is logged."""
        try:
            if self._redactor is None and waiting.held <= SMALL:
                data, whole = self._json(waiting.inference)
            else:
                loop = asyncio.get_running_loop()
                data, whole = await loop.run_in_executor(self._threads, self._json, waiting.inference)
            payload = waiting.payload.with_data(data, truncated=waiting.payload.truncated or not whole)
            await persistently(partial(store.write, payload))
        finally:
            self._held -= waiting.held
        return "logged"

    def _json(self, inference: InferRequest | InferResponse) -> tuple[bytes, bool]:
        redact = None if self._redactor is None else partial(redacted, redactor=self._redactor)
        return payload_json(inference, self._longest, redact, elements=self._elements)
