"""The messages of gRPC: as published, as compiled, and what becomes of parameters and problems."""

import grpc
import pytest
from tritonclient.grpc import service_pb2

from services.gateway.inference.grpc.codec import encode_inference, read_parameters
from services.gateway.inference.grpc.errors import LONGEST_DETAIL, PROBLEM, StatusResponse, status_of
from services.gateway.inference.grpc.protocol import inference_pb2
from services.gateway.inference.grpc.protocol.pool import load_messages
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import InferResponse
from tests.harness.protocol import PROTOCOL, compiled

OURS = {name: message.DESCRIPTOR for name, message in load_messages("inference").items()}
KSERVE_S = {("RepositoryModelLoadResponse", name) for name in ("model_name", "is_loaded")}
KSERVE_S |= {("RepositoryModelUnloadResponse", name) for name in ("model_name", "is_unloaded")}


def test_the_compiled_files_are_those_of_the_sources() -> None:
    pytest.importorskip("grpc_tools")
    for name, content in compiled().items():
        assert (PROTOCOL / name).read_bytes() == content, f"{name} is not up to date: run `make proto`"


@pytest.mark.parametrize("name", sorted(OURS))
def test_fields_are_those_that_clients_know(name: str) -> None:
    pairs = [(OURS[name], service_pb2.DESCRIPTOR.message_types_by_name[name])]
    while pairs:
        ours, theirs = pairs.pop()
        for field in ours.fields:
            if (name, field.name) not in KSERVE_S:
                known = theirs.fields_by_name[field.name]
                same = [(each.number, each.type, each.is_repeated) for each in (field, known)]
                assert same[0] == same[1], f"{ours.full_name}.{field.name}"
        pairs += [(nested, theirs.nested_types_by_name[nested.name]) for nested in ours.nested_types]


def test_parameters_keep_their_values() -> None:
    given = {"a": True, "b": -5, "c": 2**64 - 1, "d": 0.5, "e": "text"}
    response = InferResponse(model="m", parameters={**given, "f": None, "g": [1, {"h": 2}]})
    message = encode_inference(response, raw=False)
    assert read_parameters(message.parameters) == {**given, "g": '[1, {"h": 2}]'}
    assert message.parameters["a"].WhichOneof("parameter_choice") == "bool_param"
    assert message.parameters["c"].WhichOneof("parameter_choice") == "uint64_param"


def test_a_parameter_without_a_value_is_left_out() -> None:
    assert read_parameters({"a": inference_pb2.InferParameter()}) == {}


@pytest.mark.parametrize("kind", ProblemType)
def test_every_problem_has_a_status(kind: ProblemType) -> None:
    response = StatusResponse(Problem(kind, "what to do").details, {"Retry-After": "2"})
    code, text = status_of(response)
    assert code not in (grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN)
    assert text == "what to do"
    assert (response.headers[PROBLEM], response.headers["retry-after"]) == (kind.uri, "2")


def test_a_long_message_is_shortened() -> None:
    _, text = status_of(StatusResponse(Problem(ProblemType.MODEL_FAILED, "ü" * 9000).details, {}))
    assert (len(text), text[-1]) == (LONGEST_DETAIL, "…")
