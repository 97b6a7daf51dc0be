"""Keys in the metadata of calls: the checks, limits, audit log and metrics of requests over HTTP."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub as Stub

from tests.harness.authenticated_gateway import ADMIN, AuthenticatedGateway, authenticated_gateway
from tests.harness.broker import NatsServer
from tests.harness.gateways import grpc_address_of

PATH = "/inference.GRPCInferenceService"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthenticatedGateway]:
    folder = tmp_path_factory.mktemp("gateway")
    with NatsServer(folder / "nats") as broker, authenticated_gateway(broker, folder, grpc_port=0) as running:
        yield running


@pytest.fixture
def stub(gateway: AuthenticatedGateway) -> Iterator[Stub]:
    with grpc.insecure_channel(grpc_address_of(gateway.process)) as channel:
        yield Stub(channel)


def bearer(key: str) -> dict[str, Any]:
    return {"metadata": (("authorization", f"Bearer {key}"),)}


def key_for(gateway: AuthenticatedGateway, *actions: str, **more: Any) -> str:
    """A key that is in force: the gateway that issues it knows it at once."""
    secret: str = gateway.issue("acme", *actions, **more)["secret"]
    return secret


def refused(call: Any, message: Any, **options: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(message, **options)
    return caught.value


def audited(gateway: AuthenticatedGateway, action: str) -> list[dict[str, Any]]:
    lines = map(json.loads, gateway.process.log.splitlines())
    return [line for line in lines if line["message"] == "audit" and line["action"] == f"POST {PATH}/{action}"]


def test_a_call_needs_a_key(gateway: AuthenticatedGateway, stub: Stub) -> None:
    for options in ({}, bearer("sk-sluice-nobody"), {"metadata": (("cookie", f"sluice={ADMIN}"),)}):
        error = refused(stub.ServerLive, messages.ServerLiveRequest(), **options)
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "API key" in error.details()
    live = messages.ServerLiveRequest()
    assert stub.ServerLive(live, **bearer(key_for(gateway, "read"))).live
    assert stub.ServerLive(live, metadata=(("x-api-key", key_for(gateway, "query")),)).live
    assert len(audited(gateway, "ServerLive")) == 3


def test_a_key_is_checked_before_the_message_is_read(gateway: AuthenticatedGateway) -> None:
    with grpc.insecure_channel(grpc_address_of(gateway.process)) as channel:
        released = threading.Event()
        # Its message never comes.
        call = channel.stream_unary(f"{PATH}/ModelInfer").future(iter(released.wait, True))
        assert call.code() is grpc.StatusCode.UNAUTHENTICATED
        released.set()


def test_a_key_allows_its_actions_alone(gateway: AuthenticatedGateway, stub: Stub) -> None:
    reader = bearer(key_for(gateway, "read"))
    error = refused(stub.ModelInfer, messages.ModelInferRequest(model_name="iris"), **reader)
    assert (error.code(), error.details()) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "This API key lacks the action 'query'.",
    )
    unload = messages.RepositoryModelUnloadRequest(model_name="embed")
    assert refused(stub.RepositoryModelUnload, unload, **reader).code() is grpc.StatusCode.PERMISSION_DENIED
    # The admin may, though not with this model.
    error = refused(stub.RepositoryModelUnload, unload, **bearer(ADMIN))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    by_reader, by_admin = audited(gateway, "RepositoryModelUnload")
    assert (by_reader["key_name"], by_reader["status"], by_reader["tenant"]) == ("key of acme", 403, "acme")
    assert (by_admin["key_name"], by_admin["status"]) == ("admin", 422)
    assert by_admin["object"] == f"{PATH}/RepositoryModelUnload?model=embed"
    assert by_admin["client"] == "127.0.0.1"


def test_a_key_has_its_limit(gateway: AuthenticatedGateway, stub: Stub) -> None:
    limited = bearer(key_for(gateway, "read", requests_per_minute=1))
    _, call = stub.ServerLive.with_call(messages.ServerLiveRequest(), **limited)
    assert "requests" in dict(call.initial_metadata())["ratelimit-policy"]
    error = refused(stub.ServerLive, messages.ServerLiveRequest(), **limited)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = dict(error.trailing_metadata())
    assert int(trailers["retry-after"]) >= 1
    assert trailers["sluice-problem"] == "urn:sluice:problem:rate-limited"


def test_calls_are_counted_by_method_and_status(gateway: AuthenticatedGateway, stub: Stub) -> None:
    refused(stub.ServerReady, messages.ServerReadyRequest())
    assert stub.ServerReady(messages.ServerReadyRequest(), **bearer(ADMIN)).ready
    page = gateway.admin.get("/metrics").text
    for status in (200, 401):
        assert f'requests_total{{route="POST {PATH}/ServerReady",status="{status}"}} 1.0' in page


def test_no_log_holds_a_key(gateway: AuthenticatedGateway) -> None:
    assert ADMIN not in gateway.process.log
