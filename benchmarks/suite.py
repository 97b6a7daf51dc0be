"""What every benchmark shares: its command line, the machine and versions that it ran on, its results as a file.

A benchmark is a module or package `benchmarks.<name>` of the shape `Benchmark`; it ends with

    if __name__ == "__main__":
        suite.main()

so that `python -m benchmarks.<name>` runs it alone. `python -m benchmarks` finds it by its TITLE.
"""

import argparse
import importlib
import json
import os
import pkgutil
import platform
import shlex
import statistics
import subprocess
import sys
import timeit
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, cast

from benchmarks.load import Load, bodies, load
from benchmarks.usage import Usage, wait_ready

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Benchmark",
    "Load",
    "Usage",
    "NATS_SERVER",
    "PEERS",
    "RESULTS",
    "ROOT",
    "Target",
    "bodies",
    "benchmark",
    "interleave",
    "load",
    "machine",
    "main",
    "measured",
    "names",
    "parser",
    "peer_versions",
    "peers_python",
    "say",
    "save",
    "show",
    "spread",
    "wait_ready",
]

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
NATS_SERVER = Path(sys.executable).parent / "nats-server"
PEERS = ROOT / ".venv-peers"
ORDER = (
    *("quality", "pipeline", "real", "ingestion", "embedder", "retriever", "hop", "proxy", "batch", "disconnect"),
    *("startup", "growth", "fairness", "branches", "simulation", "autoscaling", "lists", "many"),
    *("chaos", "power_cuts", "soak"),
)
"""The order of the page; benchmarks that it does not name follow, by name."""

PACKAGES = ("nats-py", "faststream", "fastapi", "pydantic", "uvicorn", "uvloop", "torch", "lancedb")
"""Those whose versions change figures. A benchmark that uses others names them in VERSIONS."""

T = TypeVar("T")


class Target(NamedTuple):
    """What we want of a figure, what it is, and whether that is enough."""

    wanted: str
    found: str
    met: bool


class Benchmark(Protocol):
    """A module that compares something.

    It may have VERSIONS, further packages to record, and `targets(results)`, a list of `Target` for the page's top.
    """

    __name__: str
    TITLE: str
    ABOUT: str
    """A short paragraph of Markdown: what is compared with what, and how it is measured."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """All but --quick and --out, which every benchmark has."""

    def measure(self, arguments: argparse.Namespace) -> dict[str, Any]:
        """Raw results, able to become JSON; progress goes to standard error."""

    def table(self, results: dict[str, Any]) -> str:
        """A table in Markdown."""

    def plot(self, results: dict[str, Any], figure: "Figure") -> None:
        """Draw into an empty figure; see `benchmarks.page` for its size and colours."""


def names() -> list[str]:
    """All benchmarks, in the order of the page."""
    here = str(Path(__file__).parent)
    found = [module.name for module in pkgutil.iter_modules([here]) if _is_benchmark(module.name)]
    return sorted(found, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def _is_benchmark(name: str) -> bool:
    """Whether its source sets TITLE: looking is much cheaper than importing, which may load PyTorch."""
    file = Path(__file__).parent / name
    source = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    return any(line.startswith("TITLE = ") for line in source.read_text().splitlines())


def benchmark(name: str) -> Benchmark:
    return cast("Benchmark", importlib.import_module(f"benchmarks.{name}"))


def say(*words: object) -> None:
    """Tell of progress."""
    print(*words, file=sys.stderr, flush=True)


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median of repetitions and how far they lie apart."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def show(figures: dict[str, float], form: str = ",.0f") -> str:
    """A spread as text: the median, then the least and the most."""
    to = " to " if figures["min"] < 0 else "-"
    return f"{figures['median']:{form}} ({figures['min']:{form}}{to}{figures['max']:{form}})"


def interleave(contenders: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    """Each contender once a round, each round beginning with another one, so that noise hits all alike."""
    for number in range(rounds):
        turn = number % len(contenders)
        for contender in (*contenders[turn:], *contenders[:turn]):
            yield number, contender


def peers_python() -> Path | None:
    """The interpreter of the environment with the peers, if it was made; else says how to make it."""
    python = PEERS / "bin" / "python"
    if python.exists():
        return python
    say("the peers are left out: `make peers` installs them into .venv-peers")
    return None


def peer_versions(packages: Sequence[str]) -> dict[str, str]:
    """Of packages in the environment of the peers; those that are not there are left out."""
    python = PEERS / "bin" / "python"
    if not python.exists():
        return {}
    code = (
        "import json, sys; from importlib import metadata as m; "
        "print(json.dumps({d.name.lower(): d.version for d in m.distributions() if d.name.lower() in sys.argv[1:]}))"
    )
    told = subprocess.run([str(python), "-c", code, *packages], capture_output=True, text=True, check=True)
    return {f"{name} (peer)": number for name, number in sorted(json.loads(told.stdout).items())}


def machine() -> dict[str, Any]:
    """What it runs on. `loop_ms` is what a million turns of an empty loop take on one core: machines of one name may
    differ by a factor of three."""
    cpuinfo = Path("/proc/cpuinfo")
    models = (
        [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] if cpuinfo.exists() else []
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": models[0].partition(": ")[2] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "os": f"{platform.system()} {platform.release().partition('-')[0]}",
        "loop_ms": round(min(timeit.repeat("for _ in numbers: pass", "numbers = range(1_000_000)", number=1)) * 1e3, 1),
    }


def versions(packages: Sequence[str] = ()) -> dict[str, str]:
    """Of Python, nats-server and the packages that are installed here."""
    found = {"python": platform.python_version()}
    if NATS_SERVER.exists():
        told = subprocess.run([str(NATS_SERVER), "--version"], capture_output=True, text=True, check=True)
        found["nats-server"] = told.stdout.strip().removeprefix("nats-server: ")
    for name in (*PACKAGES, *packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def measured(name: str, arguments: argparse.Namespace, command: str) -> dict[str, Any]:
    """Measure, and say with what and where."""
    module = benchmark(name)
    began = datetime.now(UTC)
    results = module.measure(arguments)
    own = {"out", "quick"}
    return {
        "name": name,
        "command": command,
        "machine": machine(),
        "versions": versions(getattr(module, "VERSIONS", ())) | results.pop("versions", {}),
        "setup": {key: value for key, value in vars(arguments).items() if key not in own},
        "measured_at": began.isoformat(timespec="seconds"),
        "seconds": round((datetime.now(UTC) - began).total_seconds(), 1),
        "results": results,
    }


def save(record: dict[str, Any], file: Path | None = None) -> Path:
    """Write a record to `benchmarks/results/<name>.json` or to the file."""
    file = file or RESULTS / f"{record['name']}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=1, default=str) + "\n")
    return file


def parser(name: str) -> argparse.ArgumentParser:
    """The command line of a benchmark."""
    module = benchmark(name)
    found = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=module.ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--quick", action="store_true", help="a short run that shows that it works")
    found.add_argument("--out", type=Path, help="file for the results; none: benchmarks/results, unless --quick")
    module.add_arguments(found)
    return found


def main(name: str | None = None, given: Sequence[str] | None = None) -> None:
    """Run one benchmark by its command line: measure, print the table, save. By itself, the module that was run.

    --quick is for a look: it saves only where --out says so, since the page shows what was measured in full.
    """
    if name is None:
        spec = sys.modules["__main__"].__spec__
        assert spec is not None, "run it as python -m benchmarks.<name>"
        name = spec.name.removesuffix(".__main__").rpartition(".")[2]
    words = list(sys.argv[1:] if given is None else given)
    arguments = parser(name).parse_args(words)
    kept = [word for place, word in enumerate(words) if "--out" not in words[max(place - 1, 0) : place + 1]]
    record = measured(name, arguments, shlex.join(["python", "-m", f"benchmarks.{name}", *kept]))
    print(benchmark(name).table(record["results"]))
    if arguments.out or not arguments.quick:
        say(f"saved {save(record, arguments.out)} after {record['seconds']:.0f} s")
