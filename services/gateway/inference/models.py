"""Requests and responses of the Open Inference Protocol, version 2, and of KServe's version 1.

As the protocol's servers do, requests may have members and parameters that nobody knows.
"""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from shared.contracts.tensors import Datatype, ModelState

__all__ = [
    "DIMENSIONS",
    "EXTENSIONS",
    "HEAD",
    "JSON_SHARE",
    "MOST_TENSORS",
    "IndexedModel",
    "InferBody",
    "InferResponseBody",
    "LiveBody",
    "LoadBody",
    "MetadataBody",
    "Parameters",
    "PredictBody",
    "PredictResponseBody",
    "ReadyBody",
    "ReadyModelBody",
    "RepositoryIndexBody",
    "RequestInput",
    "ServerBody",
    "TensorMetadata",
]

EXTENSIONS: Final = ("binary_tensor_data", "model_repository")

JSON_SHARE: Final = 4
HEAD: Final = 2**20
"""A request may be so many times the bytes of its tensors, as their elements may take more, and so many bytes more."""

DIMENSIONS: Final = 32
MOST_TENSORS: Final = 1000
"""Of one tensor, and of one request each way."""

Parameters = dict[str, JsonValue]
Dimension = Annotated[int, Field(ge=0, lt=2**63)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True)


class RequestInput(_Body):
    name: Annotated[str, Field(min_length=1, max_length=1000)]
    shape: Annotated[list[Dimension], Field(max_length=DIMENSIONS)]
    datatype: Datatype
    parameters: Parameters = Field(
        {}, description="`binary_data_size`: the bytes of this tensor behind the JSON, in the order of the inputs."
    )
    data: list[Any] | None = Field(
        None,
        description="The elements in row-major order, flat or nested; texts for BYTES. BF16 may only be binary.",
    )


class RequestOutput(_Body):
    name: Annotated[str, Field(min_length=1, max_length=1000)]
    parameters: Parameters = Field({}, description="`binary_data`: true for this tensor behind the JSON.")


class InferBody(_Body):
    """The body of an inference; with the header `Inference-Header-Content-Length` its first bytes, and then the tensors
    that are binary."""

    id: Annotated[str, Field(max_length=1000)] = ""
    parameters: Parameters = Field(
        {},
        description="`binary_data_output`: true for all outputs behind the JSON. `timeout`: microseconds that the "
        "request may take.",
    )
    inputs: Annotated[list[RequestInput], Field(min_length=1, max_length=MOST_TENSORS)]
    outputs: Annotated[list[RequestOutput], Field(max_length=MOST_TENSORS)] = Field(
        [], description="The outputs to return; those that the model gives by itself if empty."
    )


class ResponseOutput(_Body):
    name: str
    datatype: Datatype
    shape: list[int]
    parameters: Parameters | None = None
    data: list[Any] | None = None


class InferResponseBody(_Body):
    model_name: str
    model_version: str
    id: str = ""
    parameters: Parameters | None = None
    outputs: list[ResponseOutput]


class TensorMetadata(_Body):
    """A dimension of -1 may have any length."""

    name: str
    datatype: Datatype
    shape: list[int]


class MetadataBody(_Body):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerBody(_Body):
    name: str
    version: str
    extensions: list[str]


class LiveBody(_Body):
    live: Literal[True] = True


class ReadyBody(_Body):
    ready: bool


class ReadyModelBody(_Body):
    """`reason` says why the model is not ready."""

    name: str
    version: str = ""
    ready: bool
    reason: str = ""


class RepositoryIndexBody(BaseModel):
    model_config = ConfigDict(frozen=True)

    ready: bool = Field(False, description="List only models that are ready.")


class IndexedModel(_Body):
    """`reason` says why a model is not ready, or that its first use loads it."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str

    @classmethod
    def of(cls, state: ModelState) -> Self:
        return cls(
            name=state.name,
            version=state.version,
            state="READY" if state.ready else "UNAVAILABLE",
            reason=state.reason or ("" if state.loaded else "not in memory: its first use loads it"),
        )


class LoadBody(_Body):
    parameters: Parameters = {}


class PredictBody(_Body):
    """One row an element, for a model with one input."""

    instances: Annotated[list[Any], Field(min_length=1)]


class PredictResponseBody(_Body):
    predictions: list[Any]
