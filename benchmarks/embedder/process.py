"""The contenders, each in a process of its own."""

import json
import sys
from typing import Any

from benchmarks.child import Child

__all__ = ["CONTENDERS", "Process"]

CONTENDERS: dict[str, dict[str, Any]] = {
    "encode": {"kind": "encode"},
    "torch float32": {"kind": "sluice", "backend": "torch", "dtype": "float32"},
    "torch bfloat16": {"kind": "sluice", "backend": "torch", "dtype": "bfloat16"},
    "openvino float32": {"kind": "sluice", "backend": "openvino", "dtype": "float32"},
    "openvino bfloat16": {"kind": "sluice", "backend": "openvino", "dtype": "bfloat16"},
    "default": {"kind": "sluice", "backend": "auto", "dtype": "auto"},
    "default, 1 thread": {"kind": "sluice", "backend": "auto", "dtype": "auto", "threads": 1},
}


class Process(Child):
    """A contender's process; see `worker`."""

    def __init__(self, name: str) -> None:
        super().__init__(name, [sys.executable, "-m", "benchmarks.embedder.worker", json.dumps(CONTENDERS[name])])

    @property
    def load_seconds(self) -> float:
        return float(self.began["load_seconds"])

    def ask(self, do: str, **command: Any) -> Any:
        return self.tell(json.dumps({"do": do, **command}))
