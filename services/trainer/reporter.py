"""What the trainer prints for the scheduler: see `shared.contracts.training`."""

import json
import math
import sys
import time
from collections.abc import Mapping
from typing import Final, TextIO

from pydantic import JsonValue

from shared.contracts.problems import Problem
from shared.contracts.training import METRICS, PROBLEM, TrainingMetrics

__all__ = ["Reporter"]

INTERVAL: Final = 0.25
"""Seconds between two lines of progress."""


class Reporter:
    """Prints lines, each at once; none where this process is not the one to report."""

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._quiet = quiet
        self._shown = -math.inf
        self._stream = stream or sys.stdout

    def say(self, text: str) -> None:
        """Show what is done now."""
        self._print(text)

    def progress(self, done: int, total: int) -> None:
        """Show how many steps are done, several times a second at most."""
        now = time.monotonic()
        if done == total or now - self._shown >= INTERVAL:
            self._shown = now
            self._print(f"::progress:: {done}/{total}")

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._print(f"{METRICS} {TrainingMetrics(step=step, values=finite).model_dump_json()}")

    def outputs(self, found: Mapping[str, JsonValue]) -> None:
        self._print(f"::output:: {json.dumps(found)}")

    def problem(self, problem: Problem) -> None:
        """Say why training ends. Every process may: the last problem counts."""
        self._stream.write(f"{PROBLEM} {problem.details.model_dump_json()}\n")
        self._stream.flush()

    def _print(self, line: str) -> None:
        if not self._quiet:
            self._stream.write(f"{line}\n")
            self._stream.flush()
