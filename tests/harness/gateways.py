"""A gateway as a process of its own, with collections from the start, and the OpenAI SDK pointed at it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai

from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess

__all__ = ["MODEL", "grpc_address_of", "openai_client", "openai_client_async", "running_gateway"]

MODEL = "tiny-1"
"""The model that the tests' generator says it runs."""


@contextmanager
def running_gateway(
    broker: NatsServer, folder: Path, collections: Iterable[Mapping[str, object]] = (), **settings: object
) -> Iterator[ServiceProcess]:
    """A gateway that is ready and has these collections, each given as the body of its creation."""
    with ServiceProcess("services.gateway", folder, nats_url=broker.url, **settings) as gateway:
        for record in collections:
            httpx.post(f"{gateway.url}/v1/collections", json=record, trust_env=False).raise_for_status()
        yield gateway


def grpc_address_of(gateway: ServiceProcess) -> str:
    """Where a gateway with `grpc_port=0` serves gRPC."""
    (line,) = (line for line in gateway.log.splitlines() if '"serving gRPC"' in line)
    return f"127.0.0.1:{json.loads(line)['port']}"


def openai_client(gateway: ServiceProcess, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=retries, timeout=60)


def openai_client_async(gateway: ServiceProcess, retries: int = 0) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=retries, timeout=60)
