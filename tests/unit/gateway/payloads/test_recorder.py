"""Which payloads are logged, and what becomes of those that cannot be."""

import asyncio
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.gateway.auth.principal import Principal
from services.gateway.context import RequestContext
from services.gateway.payloads.recorder import ROOM, LoggedCall, PayloadRecorder
from services.gateway.settings import GatewaySettings
from shared.contracts.payloads import InferencePayload
from shared.contracts.tensors import Datatype, InferRequest, InferResponse, Tensor, pack_bytes

pytestmark = pytest.mark.anyio

TEXT = Tensor(name="t", datatype=Datatype.BYTES, shape=(1,), data=pack_bytes([b"hello"]))
REQUEST = InferRequest(inputs=(TEXT,))
RESPONSE = InferResponse(model="m", version="2", outputs=(TEXT,))


class Log:
    """Takes what is written, once it is open."""

    def __init__(self) -> None:
        self.written: list[InferencePayload] = []
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, payload: InferencePayload) -> None:
        await self.open.wait()
        self.written.append(payload)


def context(tenant: str = "acme") -> RequestContext:
    return RequestContext(principal=Principal(tenant=tenant, key="k"))


def call(model: str = "m", **more: str) -> LoggedCall:
    return LoggedCall(model=model, version="", **more)


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("sluice_gateway_payloads_total", {"outcome": outcome}) or 0.0


async def logged(*calls: tuple[LoggedCall, RequestContext], **settings: Any) -> list[InferencePayload]:
    log, recorder = Log(), PayloadRecorder(GatewaySettings(**settings))
    async with recorder.running(log):  # type: ignore[arg-type]
        for one, of in calls:
            recorder.log(one, of, REQUEST, RESPONSE)
        await recorder.written()
    return log.written


@pytest.mark.parametrize(
    ("payloads", "kinds"),
    [("none", []), ("requests", ["request"]), ("responses", ["response"]), ("all", ["request", "response"])],
)
async def test_the_setting_says_what_is_logged(payloads: str, kinds: list[str]) -> None:
    found = await logged((call(id="7"), context()), payloads=payloads)
    assert sorted(one.kind for one in found) == kinds
    assert {one.id for one in found} <= {"7"}
    assert {(one.tenant, one.key, one.size) for one in found} <= {("acme", "k", 9)}


async def test_tenants_and_models_are_chosen() -> None:
    calls = [(call(model), context(tenant)) for model in ("m", "n") for tenant in ("acme", "other")]
    found = await logged(*calls, payloads="requests", payload_tenants="acme, third", payload_models="n")
    assert [(one.model, one.tenant) for one in found] == [("n", "acme")]


async def test_what_is_no_name_of_a_model_is_not_logged() -> None:
    assert await logged((call("a b.>"), context()), payloads="all") == []


async def test_a_share_is_drawn_by_the_id_alike_for_all_gateways() -> None:
    calls = [(call(id=f"{number:04}"), context()) for number in range(400)]
    settings = {"payloads": "all", "payload_sample": 0.25}
    (first, second) = [{(one.id, one.kind) for one in await logged(*calls, **settings)} for _ in range(2)]
    assert first == second
    ids = {one for one, _ in first}
    assert len(first) == 2 * len(ids)
    assert 60 < len(ids) < 140
    assert await logged(*calls, payloads="all", payload_sample=0.0) == []


async def test_what_there_is_no_room_for_is_counted_and_holds_nobody_up() -> None:
    log, recorder = Log(), PayloadRecorder(GatewaySettings(payloads="requests"))
    log.open.clear()
    before = counted("no-room")
    async with recorder.running(log):  # type: ignore[arg-type]
        for _ in range(ROOM + 50):
            recorder.log(call(), context(), REQUEST, None)
        assert counted("no-room") == before + 50
        log.open.set()
        await recorder.written()
    assert len(log.written) == ROOM


async def test_the_bytes_that_wait_are_bounded() -> None:
    log, recorder = Log(), PayloadRecorder(GatewaySettings(payloads="requests", redactor=str))
    log.open.clear()
    large = TEXT.model_copy(update={"data": pack_bytes([b"x" * 200_000])})
    before = counted("no-room")
    async with recorder.running(log):  # type: ignore[arg-type]
        for _ in range(200):
            recorder.log(call(), context(), InferRequest(inputs=(large,)), None)
        assert counted("no-room") == before + 200 - 2**25 // (200_004)
        log.open.set()
        await recorder.written()


async def test_a_redactor_that_fails_keeps_its_payload_out_and_is_counted() -> None:
    def fails(text: str) -> str:
        raise ValueError(text)

    before = counted("failed")
    assert await logged((call(), context()), payloads="all", redactor=fails) == []
    assert counted("failed") == before + 2
