"""A direct route behaves as it does through FastAPI."""

import json
from types import SimpleNamespace
from typing import NamedTuple

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway.app import FRAMEWORK_TELEMETRY
from services.gateway.auth.dependencies import authenticated_router, direct_router, requires
from services.gateway.http.direct_routes import DirectRoutes
from services.gateway.http.problems import ClientLeftError, handle_problems
from services.gateway.queries.pipelines import Pipelines
from services.gateway.settings import GatewaySettings
from services.gateway.state import GatewayState
from shared.contracts.keys import Action
from shared.contracts.problems import Problem, ProblemType
from shared.service.http_protocol import Departure

pytestmark = pytest.mark.anyio


class Layers:
    """Notes what goes through FastAPI."""

    def __init__(self, app: ASGIApp, passed: list[str]) -> None:
        self._app = app
        self._passed = passed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._passed.append(scope["path"])
        await self._app(scope, receive, send)


class Ends(NamedTuple):
    short: httpx.AsyncClient
    long: httpx.AsyncClient
    passed: list[str]


def direct() -> APIRouter:
    router = direct_router("ends")

    @router.post("/plain")
    @requires(Action.QUERY)
    async def plain(request: Request) -> Response:
        match (await request.body()).decode():
            case "problem":
                raise Problem(ProblemType.QUEUE_FULL, "Full.")
            case "defect":
                raise KeyError("x")
            case "left":
                raise ClientLeftError
            case "broken":

                async def pieces():  # type: ignore[no-untyped-def]
                    yield b"begun"
                    raise Problem(ProblemType.QUEUE_FULL, "Full.")

                return StreamingResponse(pieces())
            case body:
                return Response(f"{request.scope['route'].path} {body}")

    @router.post("/of/{name}/tell")
    @router.post("/of/{name}/at/{place}/tell")
    @router.post("/word/{name}:say")
    @requires(Action.QUERY)
    async def tell(request: Request) -> Response:
        return Response(f"{request.scope['route'].path} {sorted(request.path_params.items())}")

    return router


def documented() -> APIRouter:
    router = authenticated_router("ends")

    @router.get("/of/{name}")
    @requires(Action.QUERY)
    async def named(request: Request) -> Response:
        return Response(request.path_params["name"])

    return router


@pytest.fixture
def ends() -> Ends:
    # As the gateway's own: FastAPI would trace by itself where an earlier test of this process has set up tracing.
    app, router = FastAPI(telemetry=FRAMEWORK_TELEMETRY), direct()
    app.state.gateway = state = GatewayState(GatewaySettings(_env_file=None), Pipelines())
    state.authenticator.update({})  # no keys are required
    app.include_router(router)
    app.include_router(documented())
    handle_problems(app)
    passed: list[str] = []
    app.add_middleware(Layers, passed=passed)

    def client(asgi: ASGIApp) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(asgi, raise_app_exceptions=False), base_url="http://g")

    return Ends(client(DirectRoutes(app, [router])), client(app), passed)


def test_a_route_that_takes_more_than_the_request_is_refused_as_direct() -> None:
    with pytest.raises(TypeError):
        DirectRoutes(FastAPI(), [documented()])


@pytest.mark.parametrize("body", ["text", "problem", "defect", "left"])
async def test_a_plain_endpoint_answers_and_fails_as_through_fastapi_but_without_it(body: str, ends: Ends) -> None:
    short = await ends.short.post("/plain", content=body)
    assert not ends.passed
    long = await ends.long.post("/plain", content=body)
    assert ends.passed == ["/plain"]
    assert (short.status_code, short.content, short.headers) == (long.status_code, long.content, long.headers)
    if body == "problem":
        assert json.loads(short.content)["type"] == ProblemType.QUEUE_FULL.uri


@pytest.mark.parametrize(
    "path", ["/of/a/tell", "/of/a%20b/at/%C3%A4/tell", "/word/x:say", "/of/a%2Fb/tell", "/of//tell", "/of/a/tell/"]
)
async def test_parameters_of_a_path_are_read_as_by_fastapi(path: str, ends: Ends) -> None:
    short = await ends.short.post(path, content="x")
    long = await ends.long.post(path, content="x")
    assert (short.status_code, short.content) == (long.status_code, long.content)
    assert ends.passed[1:] == ([] if short.status_code == 200 else ends.passed[:1])


async def test_the_rest_is_left_to_fastapi(ends: Ends) -> None:
    assert (await ends.short.get("/of/somebody")).text == "somebody"
    assert (await ends.short.get("/plain")).status_code == 405
    assert (await ends.short.get("/nothing")).status_code == 404
    assert ends.passed == ["/of/somebody", "/plain", "/nothing"]


async def test_what_breaks_off_within_its_response_is_left_to_the_server(ends: Ends) -> None:
    broken = await ends.short.post("/plain", content="broken")
    assert (broken.status_code, broken.content) == (200, b"begun")


def test_a_departure_is_told_once_to_all_who_still_listen_and_at_once_to_those_who_come_late() -> None:
    told = SimpleNamespace(first=0, second=0, third=0)

    def note(name: str) -> None:
        setattr(told, name, getattr(told, name) + 1)

    def first() -> None:
        note("first")
        departure.forget(first)

    def second() -> None:
        note("second")

    departure = Departure()
    departure.listen(first)
    departure.listen(second)
    departure.forget(second)
    assert not departure.happened
    departure.happen()
    departure.happen()
    departure.listen(lambda: note("third"))
    assert departure.happened
    assert vars(told) == {"first": 1, "second": 0, "third": 1}
