"""`python -m tests.chaos`: see docs/chaos.md."""

import argparse
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import suite
from tests.chaos.deployment import Shape
from tests.chaos.plan import Kind
from tests.chaos.real_load import CONSTANT_ONLY
from tests.chaos.report import render, save
from tests.chaos.run import Options, chaos

REAL_CLIENTS = 8
"""The embedding model and this load share a few cores."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.chaos", description="The platform under load and faults.")
    made.add_argument("--seed", type=int, help="what draws the faults; by default another one each time")
    made.add_argument("--replay", type=int, metavar="SEED", help="the same as --seed")
    made.add_argument("--minutes", type=float, default=2.0, help="how long faults come")
    made.add_argument("--rounds", type=int, help="at most so many rounds of faults")
    made.add_argument("--faults", help=f"only these, separated by commas: {', '.join(Kind)}")
    made.add_argument("--cluster", action="store_true", help="three clustered nats-servers instead of one")
    made.add_argument("--real", action="store_true", help="the real services, model and index; fewer kinds of faults")
    made.add_argument("--clients", type=int, default=32, help="clients that ask one query after the other")
    made.add_argument("--quick", action="store_true", help="fewer processes, six rounds of short faults")
    made.add_argument("--out", type=Path, help="add the results to this JSON file")
    made.add_argument("--logs", type=Path, help="keep logs and events in this folder")
    return made


def options_of(arguments: argparse.Namespace, seed: int) -> Options:
    possible = tuple(kind for kind in Kind if not arguments.real or kind not in CONSTANT_ONLY)
    kinds = tuple(Kind(name) for name in arguments.faults.split(",")) if arguments.faults else possible
    nodes = 3 if arguments.cluster else 1
    if arguments.quick:
        shape = Shape(nodes=nodes, stages=2, split=False)
        return Options(
            seed=seed, minutes=arguments.minutes, kinds=kinds, shape=shape, clients=8, most_rounds=6, longest=1.0
        )
    return Options(
        seed=seed,
        minutes=arguments.minutes,
        kinds=kinds,
        shape=Shape(nodes=nodes, real=arguments.real),
        clients=min(arguments.clients, REAL_CLIENTS) if arguments.real else arguments.clients,
        most_rounds=arguments.rounds,
    )


def command_of(arguments: argparse.Namespace, seed: int) -> str:
    """What runs the same again."""
    words = [Path(sys.executable).name, "-m", "tests.chaos", "--seed", str(seed), "--minutes", f"{arguments.minutes:g}"]
    words += ["--rounds", str(arguments.rounds)] if arguments.rounds else []
    words += ["--faults", arguments.faults] if arguments.faults else []
    words += ["--clients", str(arguments.clients)]
    flags = ("cluster", "real", "quick")
    words += [f"--{flag}" for flag in flags if getattr(arguments, flag)]
    return shlex.join(words)


def record_of(command: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """What a benchmark's record says besides its results."""
    return {
        "name": "chaos",
        "command": command,
        "machine": suite.machine(),
        "versions": suite.versions(),
        "setup": {"clients": arguments.clients, "minutes": arguments.minutes},
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def main() -> int:
    arguments = parser().parse_args()
    seed = next(
        (s for s in (arguments.seed, arguments.replay) if s is not None), random.SystemRandom().randrange(10**6)
    )
    if arguments.logs is not None and arguments.logs.exists():
        parser().error("--logs: name a folder that is not there yet")
    command = command_of(arguments, seed)
    folder = arguments.logs or Path(tempfile.mkdtemp(prefix="sluice-chaos-"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"seed {seed}; the same faults again: {command}", file=sys.stderr)
    results: dict[str, Any] = {}
    try:
        results = chaos(options_of(arguments, seed), folder)
    except KeyboardInterrupt:
        print("interrupted; everything that was started has ended", file=sys.stderr)
        return 130
    finally:
        keep = arguments.logs is not None or (folder.exists() and bool(results.get("wrong", ["it did not end"])))
        if keep:
            print(f"events and logs: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(render(results))
    if arguments.out is not None:
        save(arguments.out, record_of(command, arguments), results)
    if results["wrong"]:
        print(f"\nFAILED. The same faults again: {command}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
