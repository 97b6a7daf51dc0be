"""The contenders, each in a process of its own."""

import json
import os
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

from benchmarks.suite import ROOT

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


class Process:
    """A contender's process, which waits without any load until it is asked; see `worker`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.load_seconds = 0.0
        self._command = [sys.executable, "-m", "benchmarks.embedder.worker", json.dumps(CONTENDERS[name])]

    def __enter__(self) -> Self:
        env = {**os.environ, "HF_HUB_OFFLINE": "1"}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=env)
        self.load_seconds = self._answer()["load_seconds"]
        return self

    def ask(self, do: str, **command: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **command}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} has ended; what it said is above")
        return json.loads(line)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
