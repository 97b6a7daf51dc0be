"""What is to be run: the services, and where they keep and offer things."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sluice.local.broker import USER, Broker
from sluice.local.environment import service_environment

__all__ = ["LocalSettings", "ServiceSpec", "Wave", "default_services"]

DRAIN_MARGIN = 5.0

QUERIES_PER_CPU: Final = 8
SPARE_PER_CPU: Final = 2
"""Queries in flight for each CPU, and further ones of tenants that have none: more only wait for the CPU."""


class Wave:
    """When a process is stopped: lower waves first, a wave at once. Broker last: all others need it to finish."""

    GATEWAY = 0
    STAGE = 1
    SCHEDULER = 2
    BROKER = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """A process that serves HTTP on the listening socket whose descriptor SLUICE_HTTP_FD names."""

    name: str
    argv: tuple[str, ...]
    wave: int = Wave.STAGE
    host: str = "127.0.0.1"
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """The options of `sluice up`; `host` and `port` are the gateway's, port 0 takes a free one.

    With a `grpc_port` the gateway serves gRPC too. `llm` is a language model that comes as a package, and sets the
    engine. `models` is a model repository, which a predictor serves. `passed` are names of variables that all services
    get besides those that they are known to need.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int | None = None
    pipelines: Path | None = None
    llm: str | None = None
    models: str | None = None
    verbose: bool = False
    passed: tuple[str, ...] = ()

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    def environment(self, service: str, own: Mapping[str, str], broker: Broker) -> dict[str, str]:
        """The environment of a service: what it needs of the user's own, and what ties it to this data folder.

        As all of them share this machine, batches make way for queries, few queries are in flight at once, and OpenMP's
        threads sleep while they wait, unless the user wants otherwise.
        """
        cpus = os.cpu_count() or 1
        sharing = {
            "SLUICE_BATCH_YIELDS": "true",
            "SLUICE_QUERY_WINDOW": str(QUERIES_PER_CPU * cpus),
            "SLUICE_QUERY_SPARE": str(SPARE_PER_CPU * cpus),
            "SLUICE_HISTORY_BYTES": str(broker.history_bytes),
            "SLUICE_PAYLOAD_BYTES": str(broker.payload_bytes),
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        ours = {
            "SLUICE_NATS_URL": broker.url or "",
            "SLUICE_NATS_USER": USER,
            "SLUICE_NATS_PASSWORD_FILE": str(broker.password_file),
            "SLUICE_DATA_DIR": str(self.data),
            "PYTHONUNBUFFERED": "1",
        }
        if self.pipelines is not None:
            ours["SLUICE_PIPELINES"] = str(self.pipelines)
        if self.models is not None:
            ours["SLUICE_MODEL_REPOSITORY"] = self.models
        if self.grpc_port is not None:
            ours["SLUICE_GRPC_PORT"] = str(self.grpc_port)
        if self.llm is not None:
            ours |= {"SLUICE_LLM": self.llm, "SLUICE_ENGINE": "vllm"}
        return {"HF_HUB_OFFLINE": "1", **sharing, **service_environment(service, own, self.passed), **ours}

    @property
    def drain_seconds(self) -> float:
        """How long a service may take to stop: its own grace period and a little more."""
        try:
            return float(os.environ.get("SLUICE_GRACE_SECONDS", "20")) + DRAIN_MARGIN
        except ValueError:
            return 20.0 + DRAIN_MARGIN


def default_services(host: str, port: int, *, models: bool = False) -> tuple[ServiceSpec, ...]:
    """The five services, and with `models` the predictor, which needs a model repository.

    `-P` keeps a folder named `services` where the user stands from taking their place.
    """
    waves = {
        "embedder": Wave.STAGE,
        "retriever": Wave.STAGE,
        "generator": Wave.STAGE,
        **({"predictor": Wave.STAGE} if models else {}),
        "scheduler": Wave.SCHEDULER,
        "gateway": Wave.GATEWAY,
    }
    return tuple(
        ServiceSpec(
            name=name,
            argv=(sys.executable, "-P", "-m", f"services.{name}"),
            wave=wave,
            host=host if name == "gateway" else "127.0.0.1",
            port=port if name == "gateway" else 0,
        )
        for name, wave in waves.items()
    )
