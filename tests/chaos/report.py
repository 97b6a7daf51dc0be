"""What a run of the chaos has shown, as tables, as a plot and as a file to which further runs are added."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ABOUT", "TITLE", "plot", "render", "save", "table"]

TITLE: Final = "Chaos tests"
ABOUT: Final = """The whole platform runs as processes on one machine, with stages without models and with queries
and jobs in closed loops, while random faults occur: see [chaos.md](chaos.md). The recovery is the time from the end of
a fault until every process reports itself healthy and each gateway answers a query. The table counts the queries in
flight between the start of a fault and the recovery from it."""

ANSWER, LOST, LEFT = "answer", "lost", "left"
REFUSED: Final = frozenset({"queue-full", "rate-limited"})

Run = Mapping[str, Any]


def render(run: Run) -> str:
    """One run for a person to read."""
    queries, jobs = run["queries"], run["jobs"]
    latency, accepted = queries["latency"], jobs["acceptance"]
    lines = [
        table({"runs": [run]}),
        "",
        f"seed {run['seed']}, {run['seconds']:.0f} s of faults, {run['nodes']} nats-server",
        f"queries   {queries['asked']:,}: {_counts(queries['outcomes'])}",
        f"latency   {_milliseconds(latency)}; the latest end after a deadline {max(0.0, queries['latest']):.2f} s",
        f"jobs      {jobs['accepted']:,} accepted, {jobs['effects']:,} effects, {jobs['tried_again']:,} tried again, "
        f"{jobs['poisoned']} poisoned; acceptance {_milliseconds(accepted)}",
        f"again     {run['duplicates']:,} messages were delivered twice",
        f"memory    {', '.join(f'{name} {a:.0f} to {b:.0f} MB' for name, (a, b) in run['memory_mb'].items())}",
    ]
    lines += [f"skipped   {kind}: {why}" for kind, why in run["skipped"].items()]
    if run["wrong"]:
        lines += ["", f"verdict   {len(run['wrong'])} broken guarantees"]
        lines += [f"  - {wrong}" for wrong in run["wrong"][:40]]
    else:
        lines += ["verdict   nothing lost, nothing doubled, nothing mixed up, nothing stuck"]
    return "\n".join(lines)


def table(results: Mapping[str, Any]) -> str:
    """One row a fault, over all runs."""
    runs: Sequence[Run] = results["runs"]
    faults: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        for fault in run["faults"]:
            faults.setdefault(fault["kind"], []).append(fault)
    rows = [
        "| fault | times | recovery | longest | queries in flight | answered | refused | problems | connection lost |",
        "|---|--:|--:|--:|--:|--:|--:|---|--:|",
    ]
    for kind in sorted(faults):
        met = _sum(fault["queries"] for fault in faults[kind])
        recoveries = sorted(fault["recovery"] for fault in faults[kind])
        problems = {name: n for name, n in met.items() if name not in (ANSWER, LOST, LEFT, *REFUSED)}
        rows.append(
            f"| {kind} | {len(recoveries)} | {recoveries[len(recoveries) // 2]:.1f} s | {recoveries[-1]:.1f} s "
            f"| {met.total():,} | {met[ANSWER]:,} | {sum(met[name] for name in REFUSED):,} "
            f"| {_counts(problems) or '-'} | {met[LOST]:,} |"
        )
    if len(runs) > 1:
        rows += ["", _totals(runs)]
    return "\n".join(rows)


def _totals(runs: Sequence[Run]) -> str:
    queries = sum(run["queries"]["asked"] for run in runs)
    outcomes = _sum(run["queries"]["outcomes"] for run in runs)
    jobs = sum(run["jobs"]["accepted"] for run in runs)
    effects = sum(run["jobs"]["effects"] for run in runs)
    wrong = sum(len(run["wrong"]) for run in runs)
    single = ", ".join(str(run["seed"]) for run in runs if run["nodes"] == 1)
    clustered = ", ".join(str(run["seed"]) for run in runs if run["nodes"] > 1)
    faults = sum(len(run["faults"]) for run in runs)
    minutes = sum(run["seconds"] for run in runs) / 60
    return (
        f"{queries:,} queries ({_counts(outcomes)}) and {jobs:,} jobs with {effects:,} effects in "
        f"{minutes:.0f} minutes with {faults:,} faults; "
        f"{wrong} broken guarantees. Seeds with one nats-server: {single or 'none'}; with three: {clustered or 'none'}."
    )


def plot(results: Mapping[str, Any], figure: "Figure") -> None:
    """How long the recovery from each fault took."""
    runs: Sequence[Run] = results["runs"]
    by_kind: dict[str, list[float]] = {}
    for run in runs:
        for fault in run["faults"]:
            by_kind.setdefault(fault["kind"], []).append(fault["recovery"])
    kinds = sorted(by_kind, reverse=True)
    axes = figure.subplots()
    for row, kind in enumerate(kinds):
        axes.plot(by_kind[kind], [row] * len(by_kind[kind]), "o", color="#0072b2", alpha=0.5)
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_xlabel("seconds from the end of the fault until recovery")
    axes.set_xlim(left=0)


def save(file: Path, record: Mapping[str, Any], run: Run) -> None:
    """Add a run to the results in a file. `record` says by which command, on which machine, with which versions."""
    before = json.loads(file.read_text()) if file.exists() else {}
    runs = [*before.get("results", {}).get("runs", []), run]
    whole = {
        **record,
        "seconds": round(sum(run["seconds"] for run in runs), 1),
        "results": {"runs": runs},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(whole, indent=1) + "\n")


def _sum(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return total


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in sorted(counts.items(), key=lambda pair: -pair[1]))


def _milliseconds(spread: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {seconds * 1e3:,.0f} ms" for name, seconds in spread.items()) or "none"
