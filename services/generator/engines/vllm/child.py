"""What runs inside vLLM's own processes, the engine core and its workers.

vLLM loads `enter` in each of them as a plugin: an entry point of this package.
"""

import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.process import BaseProcess
from typing import Any

from shared.telemetry.tracing import JsonFormatter

__all__ = ["ENVIRONMENT", "GROUP", "PLUGIN", "describe", "enter", "quieten"]

GROUP = "vllm.general_plugins"
PLUGIN = "sluice"
ENVIRONMENT = "SLUICE_VLLM_CHILD"
"""How a child knows that it belongs to a generator, and whose logs it writes."""


def describe(*, instance: str, log_level: str) -> str:
    """The value of `ENVIRONMENT`."""
    return json.dumps({"instance": instance, "log_level": log_level})


def enter() -> None:
    """Log as the generator does, and end when the process that started this one ends, however it ends.

    Does nothing in the generator itself, nor where vLLM runs for somebody else.
    """
    parent = multiprocessing.parent_process()
    described = os.environ.get(ENVIRONMENT)
    if parent is None or described is None:
        return
    _set_up_logs(json.loads(described))
    threading.Thread(target=_end_with, args=(parent,), name="end-with-parent", daemon=True).start()


def quieten(log_level: str) -> None:
    """vLLM's own news are details here; its warnings are shown."""
    logging.getLogger("vllm").setLevel(logging.INFO if log_level == "DEBUG" else logging.WARNING)


def _set_up_logs(described: dict[str, Any]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter("generator", described["instance"]))
    logging.basicConfig(level=described["log_level"], handlers=[handler], force=True)
    quieten(described["log_level"])


def _end_with(parent: BaseProcess) -> None:
    # A killed generator cannot tell its children, and an orphaned engine core would keep the GPU's memory for ever.
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
