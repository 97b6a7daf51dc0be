"""`python -m services.trainer.ray`: one training in a Ray cluster, of which this machine is the head.

This process is the first of the training's; the others run as tasks of Ray's, each on a machine of its own as far as
there are enough. What the first one prints is what `ray job submit` shows.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from shared.contracts.training import NODES, ORDER, TrainingOrder

__all__ = ["main"]

PROGRAM = (sys.executable, "-P", "-m", "services.trainer")


def main() -> int:
    """Returns the exit code of the first process. Those that outlive it are ended."""
    import ray

    size = int(os.environ.get(NODES, "1"))
    if size == 1:
        return subprocess.run(PROGRAM, env=dict(os.environ), check=False).returncode  # noqa: S603
    gpus = TrainingOrder.model_validate_json(os.environ[ORDER]).spec.resources.gpus
    ray.init()
    meeting = {"MASTER_ADDR": ray.util.get_node_ip_address(), "MASTER_PORT": str(_free_port())}
    others = [_start(ray, _member(rank, size) | meeting, gpus) for rank in range(1, size)]
    code = subprocess.run(  # noqa: S603
        PROGRAM, env=dict(os.environ) | _member(0, size) | meeting, check=False
    ).returncode
    for other in others:
        ray.cancel(other, force=True)
    return code


def _member(rank: int, size: int) -> dict[str, str]:
    """What torchrun would tell a process. Each has a machine to itself."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "GROUP_RANK": str(rank),
    }


def _start(ray: Any, environment: Mapping[str, str], gpus: int) -> Any:
    @ray.remote(scheduling_strategy="SPREAD", max_retries=0, num_gpus=gpus)  # type: ignore[untyped-decorator]
    def train() -> int:
        return subprocess.run(PROGRAM, env={**os.environ, **environment}, check=False).returncode  # noqa: S603

    return train.remote()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
