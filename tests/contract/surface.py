"""Everything that users of Sluice rely on, computed from the code as plain data."""

import asyncio
import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import httpx
import typer.main
from pydantic import SecretStr
from pydantic_settings import BaseSettings

import sluice
from services.gateway.app import make
from services.gateway.settings import GatewaySettings
from shared.contracts.problems import ProblemType
from shared.nats.settings import QueueSettings
from shared.nats.streams import buckets, durable_streams, query_stream, stores
from shared.nats.subjects import BUILT_IN_QUEUES
from shared.security.roles import roles
from sluice.cli import app as cli
from tests.contract.structure import model_schema, operation, plain, signature, spelled_type
from tests.harness.metrics import own_metrics

__all__ = ["surface"]

SERVICES = ("gateway", "embedder", "retriever", "generator", "scheduler")


def surface() -> dict[str, Any]:
    """HTTP, command line, environment, metrics, broker, problems and Python client. Needs no broker."""
    return {
        **asyncio.run(_http()),
        "cli": dict(_commands("sluice", typer.main.get_command(cli))),
        "environment": {name: found for service in SERVICES for name, found in _settings(service).items()},
        "metrics": {m.name: {"type": m.type, "labels": sorted(m.labels)} for m in own_metrics().values()},
        **_broker(),
        "problems": {kind.uri: {"status": kind.value[1], "title": kind.value[2]} for kind in ProblemType},
        "python": _python(),
    }


async def _http() -> dict[str, Any]:
    _, app = make(GatewaySettings(_env_file=None))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        document = (await client.get("/openapi.json")).json()
        # A method that no path knows tells a path that exists (405) from one that does not (404).
        pages = ("/livez", "/readyz", "/metrics", "/asyncapi", "/docs", "/openapi.json", "/redoc")
        found = {page: (await client.patch(page)).status_code == 405 for page in pages}
    return {
        "pages": found,
        "operations": {
            f"{method.upper()} {path}": operation(described, document)
            for path, methods in document["paths"].items()
            for method, described in methods.items()
        },
        "security schemes": {
            name: {key: value for key, value in scheme.items() if key != "description"}
            for name, scheme in document["components"]["securitySchemes"].items()
        },
    }


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    parameters = {}
    for number, parameter in enumerate(command.params):
        spelled = " ".join(sorted([*parameter.opts, *parameter.secondary_opts]))
        option = spelled.startswith("-")
        parameters[spelled if option else f"argument {number}"] = {
            "type": spelled_type(parameter.type_descriptor.annotation, {}),
            "required": parameter.required,
            "many": parameter.multiple or parameter.nargs == -1,
            "flag": option and parameter.is_flag,
            "default": _default(parameter.default),
            "environment": parameter.envvar,
        }
    yield name, parameters
    for below, nested in getattr(command, "commands", {}).items():
        yield from _commands(f"{name} {below}", nested)


def _default(value: Any) -> Any:
    return plain(value) if isinstance(value, str | int | float | list | tuple | None) or callable(value) else str(value)


def _settings(service: str) -> dict[str, Any]:
    """Every setting by the name of its environment variable."""
    module = importlib.import_module(f"services.{service}.settings")
    (settings,) = (
        found
        for name, found in vars(module).items()
        if inspect.isclass(found) and issubclass(found, BaseSettings) and name == f"{service.title()}Settings"
    )
    schema = model_schema(settings)["properties"]
    prefix = settings.model_config.get("env_prefix", "")
    return {f"{service}: {prefix}{name}".upper(): schema[name] for name in settings.model_fields}


def _broker() -> dict[str, Any]:
    settings = QueueSettings(_env_file=None)
    streams = (query_stream(settings), *durable_streams(settings))
    return {
        "streams": {stream.name: _set(stream) for stream in streams},
        "buckets": {bucket.bucket: _set(bucket) for bucket in buckets(settings)},
        "stores": {store.bucket: _set(store) for store in stores(settings)},
        "queues": {queue.consumer: {"filter": queue.filter, "exclusive": queue.exclusive} for queue in BUILT_IN_QUEUES},
        "roles": {role.name: {"publish": role.publish, "subscribe": role.subscribe} for role in roles()},
    }


def _set(config: Any) -> dict[str, Any]:
    found = {field.name: plain(getattr(config, field.name)) for field in dataclasses.fields(config)}
    return {name: value for name, value in found.items() if value is not None}


def _python() -> dict[str, Any]:
    public = {getattr(sluice, name): name for name in sluice.__all__ if inspect.isclass(getattr(sluice, name))}
    found: dict[str, Any] = {"names": sorted(sluice.__all__)}
    for owner in (sluice.Client, sluice.AsyncClient, sluice.Pipeline):
        methods = {
            name: signature(member, {**public, SecretStr: "SecretStr"})
            for name, member in inspect.getmembers(owner, callable)
            if not name.startswith("_") or name == "__init__"
        }
        found[owner.__name__] = methods
    return found
