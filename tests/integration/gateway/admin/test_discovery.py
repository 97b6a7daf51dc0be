"""Services that serve another variant of their stage."""

from pathlib import Path

import nats
import pytest

from services.gateway.admin.discovery import discover_services
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("variant", "served"),
    [("default", {("retrieve", "default"), ("index", "default")}), ("canary", {("retrieve", "canary")})],
)
async def test_only_retrievers_of_the_default_variant_write_the_index(
    broker: NatsServer, tmp_path: Path, variant: str, served: set[tuple[str, str]]
) -> None:
    with ServiceProcess("services.retriever", tmp_path, nats_url=broker.url, retriever_variant=variant):
        client = await nats.connect(broker.url)
        try:
            (process,) = await discover_services(client)
        finally:
            await client.close()
    assert process.ready
    assert {(stage.stage, stage.variant) for stage in process.stages} == served
