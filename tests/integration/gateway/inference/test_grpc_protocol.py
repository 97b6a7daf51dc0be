"""The protocol over gRPC as messages and bytes: what clients of any language send and get."""

import re
import signal
import socket
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub as Stub

from tests.harness.gateways import grpc_address_of
from tests.harness.processes import ServiceProcess
from tests.harness.supervisor import until

INFER = "/inference.GRPCInferenceService/ModelInfer"
NUMBERS = np.array([1, 2, 3], np.float32)


@pytest.fixture
def channel(grpc_address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(grpc_address) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.Channel) -> Stub:
    return Stub(channel)


def request(model: str = "doubler", **members: Any) -> messages.ModelInferRequest:
    given = {"name": "x", "datatype": "FP32", "shape": [1, 3], **members}
    return messages.ModelInferRequest(model_name=model, inputs=[given])


def raw(data: bytes = NUMBERS.tobytes(), **members: Any) -> messages.ModelInferRequest:
    asked = request(**members)
    asked.raw_input_contents.append(data)
    return asked


def gate(opened: Path) -> messages.ModelInferRequest:
    asked = raw(model="gate", shape=[3])
    asked.parameters["open"].string_param = str(opened)
    return asked


def refused(call: Any, *arguments: Any, **options: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **options)
    return caught.value.code().name, caught.value.details()


TYPED = {
    "BOOL": ("bool_contents", [True, False]),
    "INT8": ("int_contents", [-128, 127]),
    "INT16": ("int_contents", [-(2**15), 1]),
    "INT32": ("int_contents", [-(2**31), 1]),
    "INT64": ("int64_contents", [-(2**63), 1]),
    "UINT8": ("uint_contents", [255, 0]),
    "UINT16": ("uint_contents", [2**16 - 1, 0]),
    "UINT32": ("uint_contents", [2**32 - 1, 0]),
    "UINT64": ("uint64_contents", [2**64 - 1, 0]),
    "FP32": ("fp32_contents", [1.5, float("inf")]),
    "FP64": ("fp64_contents", [1e300, -0.5]),
    "BYTES": ("bytes_contents", [b"", "grün".encode()]),
}


def test_typed_elements_are_answered_as_typed_elements(stub: Stub) -> None:
    asked = messages.ModelInferRequest(model_name="typed")
    for name, (member, elements) in TYPED.items():
        asked.inputs.add(name=name, datatype=name, shape=[1, 2], contents={member: elements})
    answered = stub.ModelInfer(asked)
    came = {output.name.removesuffix("_out"): output for output in answered.outputs}
    for name, (member, elements) in TYPED.items():
        assert list(getattr(came[name].contents, member)) == elements, name
        assert (came[name].datatype, list(came[name].shape)) == (name, [1, 2])


def test_raw_elements_are_answered_as_raw_elements_unless_others_are_wanted(stub: Stub) -> None:
    asked = raw()
    answered = stub.ModelInfer(asked)
    assert list(answered.raw_output_contents) == [(NUMBERS * 3).tobytes()]
    assert not answered.outputs[0].HasField("contents")
    asked.parameters["binary_data_output"].bool_param = False
    assert list(stub.ModelInfer(asked).outputs[0].contents.fp32_contents) == [3, 6, 9]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (request(), "inputs[0].contents: has 0 bytes, and 3 elements of FP32 have other"),
        (request(contents={"int_contents": [1, 2, 3]}), "elements of FP32 belong into fp32_contents, not int_contents"),
        (request(datatype="INT8", contents={"int_contents": [300]}, shape=[1]), "has an element that is not of INT8"),
        (request(datatype="FP16"), "inputs[0].contents: FP16 has no typed form: send it in raw_input_contents."),
        (raw(NUMBERS[:2].tobytes()), "raw_input_contents[0]: has 8 bytes, and 3 elements of FP32 have other"),
        (raw(b"\x05\0\0\0ab", datatype="BYTES"), "raw_input_contents[0]: the data ends within an element"),
        (raw(contents={"fp32_contents": NUMBERS}), "inputs[0].contents: is set beside raw_input_contents"),
        (raw(datatype="FP31"), "inputs[0].datatype"),
        (raw(shape=[-1, 3]), "greater than or equal to 0"),
        (raw(shape=[1] * 40), "inputs[0].shape"),
        (raw(parameters={"shared_memory_region": {"string_param": "r"}}), "not served here"),
        (messages.ModelInferRequest(model_name="doubler"), "inputs"),
        (messages.ModelInferRequest(model_name="doubler", inputs=[{}] * 1001), "inputs: has 1,001 tensors"),
        (raw(parameters={str(n): {"int64_param": n} for n in range(1001)}), "There are 1,001 parameters"),
        (messages.ModelInferRequest(raw_input_contents=[b""], model_name="doubler", inputs=[]), "inputs"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(stub: Stub, asked: messages.ModelInferRequest, said: str) -> None:
    code, detail = refused(stub.ModelInfer, asked)
    assert (code, said in detail) == ("INVALID_ARGUMENT", True), detail


def test_raw_tensors_are_counted(stub: Stub) -> None:
    asked = raw()
    asked.raw_input_contents.append(b"")
    assert "raw_input_contents has 2 tensors, and inputs 1" in refused(stub.ModelInfer, asked)[1]


def test_what_is_no_message_is_refused(channel: grpc.Channel) -> None:
    call = channel.unary_unary(INFER)
    assert refused(call, b"\xff\xff\xff\xff") == (
        "INVALID_ARGUMENT",
        "The message is not an inference.ModelInferRequest.",
    )
    assert refused(call, b"\x1f\x8bnothing") == ("INVALID_ARGUMENT", "The body is not gzip.")
    assert refused(channel.stream_unary(INFER), iter(())) == ("INVALID_ARGUMENT", "The call has no message.")
    assert refused(channel.unary_unary("/inference.GRPCInferenceService/Nothing"), b"")[0] == "UNIMPLEMENTED"


def test_a_message_that_is_too_large_is_refused_before_it_is_read(channel: grpc.Channel) -> None:
    call = channel.unary_unary(INFER)
    code, detail = refused(call, bytes(18 * 2**20))
    assert (code, "larger than max" in detail) == ("RESOURCE_EXHAUSTED", True), detail
    small = zlib.compress(bytes(40 * 2**20))
    code, detail = refused(call, small)
    assert (code, "allowed here" in detail) == ("RESOURCE_EXHAUSTED", True), detail


@pytest.mark.parametrize(
    "rubbish", [b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 40, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" * 9]
)
def test_rubbish_at_the_port_disturbs_nobody(grpc_address: str, stub: Stub, rubbish: bytes) -> None:
    host, port = grpc_address.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(rubbish)
        while connection.recv(4096):
            pass
    assert stub.ServerLive(messages.ServerLiveRequest()).live


def test_a_trace_goes_on_and_its_id_comes_back(stub: Stub) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    metadata = (("traceparent", f"00-{trace}-b7ad6b7169203331-01"),)
    _, call = stub.ServerLive.with_call(messages.ServerLiveRequest(), metadata=metadata)
    assert dict(call.initial_metadata())["x-trace-id"] == trace
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request("nobody", contents={"fp32_contents": NUMBERS}), metadata=metadata)
    trailers = dict(caught.value.trailing_metadata())
    assert trailers["sluice-problem"] == "urn:sluice:problem:model-not-found"
    assert trailers["x-trace-id"] == trace


def in_flight(gateway: ServiceProcess) -> float:
    page = httpx.get(f"{gateway.url}/metrics", trust_env=False).text
    found = re.search(r"^sluice_gateway_queries_in_flight (\S+)$", page, re.MULTILINE)
    assert found
    return float(found[1])


def test_the_client_s_deadline_is_that_of_the_query(gateway: ServiceProcess, stub: Stub, tmp_path: Path) -> None:
    opened = tmp_path / "open"
    asked = gate(opened)
    try:
        assert refused(stub.ModelInfer, asked, timeout=1)[0] == "DEADLINE_EXCEEDED"
        until(lambda: in_flight(gateway) == 0)
        # Within it a request may name a shorter one.
        asked.parameters["timeout"].int64_param = 1_000_000
        code, detail = refused(stub.ModelInfer, asked, timeout=60)
        assert (code, "did not finish within 1 s" in detail) == ("DEADLINE_EXCEEDED", True), detail
    finally:
        opened.touch()


def test_a_call_that_is_cancelled_ends_its_query(gateway: ServiceProcess, stub: Stub, tmp_path: Path) -> None:
    opened = tmp_path / "open"
    try:
        call = stub.ModelInfer.future(gate(opened))
        until(lambda: in_flight(gateway) == 1)
        call.cancel()
        until(lambda: in_flight(gateway) == 0)
    finally:
        opened.touch()


def test_a_call_that_is_in_work_may_finish_when_the_gateway_stops(
    broker: Any, predictor: ServiceProcess, tmp_path: Path
) -> None:
    opened = tmp_path / "open"
    with ServiceProcess("services.gateway", tmp_path, nats_url=broker.url, grpc_port=0, grpc_calls=3) as gateway:
        with grpc.insecure_channel(grpc_address_of(gateway)) as channel:
            watching = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
            assert next(watching) == b"\x08\x01"
            released = threading.Event()
            idle = Stub(channel).ModelStreamInfer(iter(released.wait, True))
            assert dict(idle.initial_metadata())["x-trace-id"]
            call = Stub(channel).ModelInfer.future(gate(opened))
            until(lambda: in_flight(gateway) == 1)
            code, _ = refused(Stub(channel).ServerLive, messages.ServerLiveRequest())
            assert code == "RESOURCE_EXHAUSTED"
            gateway.signal(signal.SIGTERM)
            assert next(watching) == b"\x08\x02"
            assert (idle.code(), idle.details()) == (
                grpc.StatusCode.UNAVAILABLE,
                "The gateway stops: begin another stream.",
            )
            released.set()
            opened.touch()
            assert list(call.result(timeout=60).raw_output_contents) == [NUMBERS.tobytes()]
            watching.cancel()
        assert gateway.wait() == 0


def test_the_health_service_answers(channel: grpc.Channel) -> None:
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    assert check(b"") == b"\x08\x01"
    name = b"inference.GRPCInferenceService"
    assert check(b"\x0a" + bytes([len(name)]) + name) == b"\x08\x01"
    assert refused(check, b"\x0a\x01x")[0] == "NOT_FOUND"
    assert next(channel.unary_stream("/grpc.health.v1.Health/Watch")(b"\x0a\x01x")) == b"\x08\x03"
