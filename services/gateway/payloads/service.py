"""Payloads as the HTTP API shows them."""

from datetime import UTC, datetime

from pydantic_core import from_json

from shared.contracts.payloads import InferencePayload
from shared.nats.kv import Stored
from sluice.api.payloads import Payload

__all__ = ["shown"]


def shown(stored: Stored[InferencePayload]) -> Payload:
    payload = stored.record
    return Payload(
        seq=stored.revision,
        id=payload.id,
        kind=payload.kind,
        model=payload.model,
        version=payload.version,
        at=datetime.fromtimestamp(payload.at, UTC),
        reader=payload.reader,
        key=payload.key,
        size=payload.size,
        truncated=payload.truncated,
        data=from_json(payload.data),
    )
