"""Requests and responses of models as they are logged: CloudEvents 1.0 in binary mode, with the types and attributes of
KServe's logger."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final
from urllib.parse import quote, unquote

__all__ = ["InferencePayload", "PayloadKind"]

TYPE: Final = "org.kubeflow.serving.inference."

PRINTABLE: Final = "".join(chr(code) for code in range(33, 127) if chr(code) not in '"%')
"""What stands in a header as it is; all else is percent-encoded."""


class PayloadKind(StrEnum):
    REQUEST = "request"
    RESPONSE = "response"


@dataclass(frozen=True, slots=True, kw_only=True)
class InferencePayload:
    """One request to a model, or its response, which has the same `id`.

    `at` is Unix seconds, `reader` who has asked, and `key` the API key. `size` are the bytes of all tensors. `data` is
    JSON as in version 2 of the Open Inference Protocol; `truncated` says that it does not hold all of it.
    """

    id: str
    kind: PayloadKind
    tenant: str
    model: str
    version: str = ""
    at: float
    reader: str = ""
    key: str = ""
    size: int = 0
    truncated: bool = False
    data: bytes = b"{}"

    def with_data(self, data: bytes, *, truncated: bool) -> "InferencePayload":
        return replace(self, data=data, truncated=truncated)

    def headers(self) -> dict[str, str]:
        """The attributes. One that is empty is left out."""
        attributes = {
            "specversion": "1.0",
            "id": self.id,
            "source": f"/sluice/models/{self.model}/{self.kind}",
            "type": f"{TYPE}{self.kind}",
            "time": datetime.fromtimestamp(self.at, UTC).isoformat(),
            "inferenceservicename": self.model,
            "namespace": self.tenant,
            "component": "predictor",
            "modelversion": self.version,
            "reader": self.reader,
            "apikey": self.key,
            "size": str(self.size),
            "truncated": "true" if self.truncated else "",
        }
        written = {f"ce-{name}": quote(value, safe=PRINTABLE) for name, value in attributes.items() if value}
        return {**written, "content-type": "application/json"}

    @classmethod
    def read(cls, headers: Mapping[str, str], data: bytes) -> "InferencePayload":
        """Raises KeyError or ValueError for an event of another kind."""
        told = {name.removeprefix("ce-"): unquote(value) for name, value in headers.items() if name.startswith("ce-")}
        return cls(
            id=told["id"],
            kind=PayloadKind(told["type"].removeprefix(TYPE)),
            tenant=told["namespace"],
            model=told["inferenceservicename"],
            version=told.get("modelversion", ""),
            at=datetime.fromisoformat(told["time"]).timestamp(),
            reader=told.get("reader", ""),
            key=told.get("apikey", ""),
            size=int(told.get("size", "0")),
            truncated=told.get("truncated") == "true",
            data=data,
        )
