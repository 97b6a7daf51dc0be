"""A bound on the memory of this process. Address space says little where PyTorch maps files and reserves much: what
counts is what is resident."""

import os
import threading
import time
from pathlib import Path
from typing import Final

from services.trainer.reporter import Reporter
from shared.contracts.problems import Problem, ProblemType

__all__ = ["watch_memory"]

INTERVAL: Final = 0.25
STATM: Final = Path("/proc/self/statm")


def watch_memory(most_bytes: int, reporter: Reporter) -> None:
    """End this process with a problem once it takes more. Where the system does not say, there is no bound."""
    if STATM.exists():
        threading.Thread(target=_watch, args=(most_bytes, reporter), daemon=True, name="memory").start()


def _watch(most_bytes: int, reporter: Reporter) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    while True:
        resident = int(STATM.read_text().split()[1]) * page
        if resident > most_bytes:
            reporter.problem(
                Problem(
                    ProblemType.TRAINING_FAILED,
                    f"Training took {resident / 2**20:,.0f} MB of memory; {most_bytes / 2**20:,.0f} MB are allowed. "
                    "Make `batch` or `max_tokens` smaller, or take the loss 'cached-ranking'.",
                )
            )
            os._exit(1)
        time.sleep(INTERVAL)
