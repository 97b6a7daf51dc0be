"""A gateway and an embedder as processes of their own, and the real SDK of OpenAI pointed at them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai

from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess

__all__ = ["MODEL", "face", "sdk", "sdk_async"]

MODEL = "tiny-1"
"""The model that the tests' generator says it runs."""


@contextmanager
def face(broker: NatsServer, folder: Path, **settings: object) -> Iterator[ServiceProcess]:
    """A gateway that has the collections `default` and `docs`."""
    with ServiceProcess("services.gateway", folder, nats_url=broker.url, **settings) as gateway:
        for name in ("default", "docs"):
            made = httpx.post(f"{gateway.url}/v1/collections", json={"name": name}, trust_env=False)
            assert made.is_success
        yield gateway


def sdk(gateway: ServiceProcess, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=retries, timeout=60)


def sdk_async(gateway: ServiceProcess, retries: int = 0) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=retries, timeout=60)
