"""The chaos as a benchmark: `python -m tests.chaos` is the whole of it, and adds each run to the results by --out."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import suite
from tests.chaos.deployment import Shape
from tests.chaos.plan import Kind
from tests.chaos.report import ABOUT, plot, table
from tests.chaos.report import TITLE as NAME
from tests.chaos.run import Options, chaos

__all__ = ["ABOUT", "TITLE", "add_arguments", "measure", "plot", "table"]

TITLE = NAME
VERSIONS = ("httptools", "psutil")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2], help="each with one nats-server")
    parser.add_argument("--cluster-seeds", type=int, nargs="*", default=[3], help="each with three")
    parser.add_argument("--minutes", type=float, default=1.0, help="minutes of faults with each seed")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Raises SystemExit where a promise was broken."""
    minutes, most = (0.2, 4) if arguments.quick else (arguments.minutes, None)
    turns = [(seed, 1) for seed in arguments.seeds] + [(seed, 3) for seed in arguments.cluster_seeds]
    runs = []
    for seed, nodes in turns:
        suite.say(f"chaos: seed {seed}, {nodes} nats-server")
        options = Options(seed=seed, minutes=minutes, kinds=tuple(Kind), shape=Shape(nodes=nodes), most_rounds=most)
        with tempfile.TemporaryDirectory(prefix="sluice-chaos-") as folder:
            runs.append(chaos(options, Path(folder)))
        if runs[-1]["wrong"]:
            raise SystemExit(f"seed {seed} broke guarantees: {runs[-1]['wrong'][:5]}; see python -m tests.chaos")
    return {"runs": runs}


if __name__ == "__main__":
    suite.main()
