"""The HTTP API against its OpenAPI document: whatever is asked, the answer is one that the document tells of, and never
an error of the server's own. On a real gateway and a real broker, with stages that answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from services.gateway.app import make
from services.gateway.settings import GatewaySettings
from tests.harness.authenticated_gateway import ADMIN
from tests.harness.broker import NatsServer
from tests.harness.models import write_doubler
from tests.harness.processes import ServiceProcess
from tests.harness.stages import ALL, Stages

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)

SOME = settings(
    max_examples=3,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
"""So many requests of each operation and mode, the same in each run."""


def document() -> dict[str, Any]:
    """The OpenAPI document, of a gateway that is made and not started."""
    _, app = make(GatewaySettings())
    while not hasattr(app, "openapi"):
        app = app._app  # type: ignore[attr-defined]
    described: dict[str, Any] = app.openapi()
    return described


# Any bytes: whole archives are sent by the tests of what reads them.
schemathesis.serializer.alias("application/x-tar", "application/octet-stream")
SCHEMA = schemathesis.openapi.from_dict(document(), config=SchemathesisConfig())
OPERATIONS = {result.ok().label: result.ok() for result in SCHEMA.get_all_operations()}


@contextmanager
def serving(folder: Path, **options: Any) -> Iterator[str]:
    """A gateway with the collection `default`, stages that answer, and the model `doubler`. Yields its address."""
    write_doubler(folder / "models" / "doubler" / "1")
    with NatsServer(folder / "nats") as broker, start_blocking_portal() as portal:
        stages = Stages(broker.url)
        stages.models = {"embed": "tiny-embedder", "rerank": "tiny-reranker", "generate": "tiny-1"}
        with (
            portal.wrap_async_context_manager(stages.running(("condense", "rerank", *ALL))),
            ServiceProcess("services.gateway", folder, nats_url=broker.url, **options) as gateway,
            ServiceProcess("services.predictor", folder, nats_url=broker.url, model_repository=folder / "models"),
        ):
            headers = {"X-API-Key": ADMIN}
            made = httpx.post(
                f"{gateway.url}/v1/collections", json={"name": "default"}, headers=headers, trust_env=False
            )
            assert made.status_code == 201
            yield gateway.url


@pytest.fixture(scope="module")
def open_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("open")) as url:
        yield url


@pytest.fixture(scope="module")
def authenticated_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("keyed"), admin_key=ADMIN) as url:
        yield url


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def check(operation: Any, mode: schemathesis.GenerationMode, url: str, **options: Any) -> None:
    """Ask for an operation in so many ways, and hold each answer to the document."""

    @SOME
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate(base_url=url, checks=CHECKS, timeout=30, **options)

    ask()


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_open_gateway_answers_as_its_document_says(
    open_gateway: str, session: requests.Session, operation: str, mode: schemathesis.GenerationMode
) -> None:
    check(OPERATIONS[operation], mode, open_gateway, session=session)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_gateway_with_keys_answers_as_its_document_says(
    authenticated_url: str, session: requests.Session, operation: str
) -> None:
    headers = {"Authorization": f"Bearer {ADMIN}"}
    check(OPERATIONS[operation], MODES[0], authenticated_url, session=session, headers=headers)
