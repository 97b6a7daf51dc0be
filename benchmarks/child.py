"""A process that waits without any load until it is asked, by lines on its standard input and output."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.suite import ROOT

__all__ = ["Child"]


class Child:
    """Answers each line with one of JSON; the first, `began`, comes by itself once it is ready.

    As a context manager it runs; `log` is the file for what it says besides.
    """

    def __init__(self, name: str, command: Sequence[str], *, log: Path | None = None, **environment: str) -> None:
        self.name = name
        self.began: dict[str, Any] = {}
        self._command = command
        self._log = log
        # None of them asks the Hub for anything.
        self._environment = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}

    def __enter__(self) -> Self:
        log = None if self._log is None else self._log.open("wb")
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env=self._environment,
            )
        finally:
            if log is not None:
                log.close()
        self.began = self._answer()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def tell(self, line: str) -> Any:
        """Send a line and wait for the answer. Raises SystemExit where the process has ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            said = "what it said is above" if self._log is None else f"it said:\n{self._log.read_text()[-2000:]}"
            raise SystemExit(f"{self.name} has ended; {said}")
        return json.loads(line)
