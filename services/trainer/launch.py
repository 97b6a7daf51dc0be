"""How the processes of one training find each other: by torchrun, which starts this program again in each of them."""

import sys
from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from shared.contracts.training import NODES, ORDER, TrainingOrder

__all__ = ["PORT", "torchrun"]

PORT: Final = 29500
"""Where the processes of several machines meet, on the first of them."""

HOST: Final = "SLUICE_JOB_HOST"


def torchrun(environment: Mapping[str, str]) -> list[str] | None:
    """The arguments of the process to start instead of this one; None where torchrun has started this one, or
    there is to be no other."""
    if "RANK" in environment:
        return None
    begin = [sys.executable, "-P", "-m", "torch.distributed.run"]
    program = ["-m", "services.trainer"]
    if "PET_NNODES" in environment:  # an operator has said where and how many, in the variables that torchrun reads
        return [*begin, *program]
    nodes = int(environment.get(NODES, "1"))
    if nodes > 1:
        return [
            *begin,
            f"--nnodes={nodes}",
            "--nproc-per-node=1",
            f"--node-rank={environment['JOB_COMPLETION_INDEX']}",
            f"--master-addr={environment[HOST]}",
            f"--master-port={PORT}",
            *program,
        ]
    processes = _processes(environment)
    if processes > 1:
        return [*begin, "--standalone", f"--nproc-per-node={processes}", *program]
    return None


def _processes(environment: Mapping[str, str]) -> int:
    """As the order says; one that cannot be read is complained of where it is needed."""
    try:
        return TrainingOrder.model_validate_json(environment.get(ORDER, "{}")).spec.processes
    except ValidationError:
        return 1
