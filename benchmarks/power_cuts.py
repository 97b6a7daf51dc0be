"""A hundred power cuts under load: `python -m benchmarks.power_cuts --help`"""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import suite
from tests.chaos.power_cuts import power_cuts
from tests.harness.volatile_disk import volatile_disk

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Power cuts"
ABOUT = """\
A whole `sluice up` on an ext4 file system of its own, while four clients upload, replace and delete documents. At a
random moment all its processes stop, and the file system loses what was not synced: see
[chaos.md](chaos.md#power-cuts). Then it starts again, sometimes with another cut while it does. After each start every
job that was accepted has to succeed, and the documents and what a query finds of them have to be what was acknowledged
last. At the end each document is in the index once."""
VERSIONS = ("psutil",)
DISK_MB = 2000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cuts", type=int, nargs="*", default=[100], help="cuts of each run")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1], help="one for each run")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Raises SystemExit where something that was acknowledged is lost."""
    runs = []
    for seed, cuts in zip(arguments.seeds, [2] if arguments.quick else arguments.cuts, strict=False):
        with (
            tempfile.TemporaryDirectory(prefix="sluice-power-") as folder,
            volatile_disk(Path(folder) / "disk", DISK_MB) as disk,
        ):
            found = power_cuts(disk, seed, cuts, suite.say)
        if found.wrong:
            raise SystemExit("\n".join(found.wrong))
        runs.append({"seed": seed, **found.summary()})
    return {"runs": runs}


def table(results: dict[str, Any]) -> str:
    runs = results["runs"]
    seconds = suite.spread([each for run in runs for each in run["starts"]])
    rows = {
        "power cuts under load": sum(len(run["accepted"]) for run in runs),
        "power cuts while it started": sum(run["early"] for run in runs),
        "requests acknowledged": sum(sum(run["accepted"]) for run in runs),
        "documents in requests that nobody answered": sum(run["unsure"] for run in runs),
        "jobs that had to succeed": sum(run["jobs"] for run in runs),
        "documents at the end": sum(run["documents"] for run in runs),
        "versions of the index that were set aside": sum(run["set_aside"] for run in runs),
        "**lost, or not as acknowledged**": sum(len(run["wrong"]) for run in runs),
        "seconds from the start until all services are ready": suite.show(seconds, ".1f"),
    }
    lines = ["| | |", "|---|---:|"]
    return "\n".join(
        [*lines, *(f"| {name} | {value if isinstance(value, str) else f'{value:,}'} |" for name, value in rows.items())]
    )


def plot(results: dict[str, Any], figure: "Figure") -> None:
    accepted = [count for run in results["runs"] for count in run["accepted"]]
    axis = figure.subplots()
    axis.bar(range(1, len(accepted) + 1), accepted)
    axis.set_xlabel("power cut")
    axis.set_ylabel("requests acknowledged before it")


if __name__ == "__main__":
    suite.main()
