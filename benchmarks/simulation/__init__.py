"""Pull against push, simulated: `python -m benchmarks.simulation [--quick]`."""

import argparse
from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from benchmarks import suite
from benchmarks.page import COLOURS
from benchmarks.simulation import scenarios
from benchmarks.simulation.policies import POLICIES
from benchmarks.simulation.scenarios import Plan
from benchmarks.simulation.workload import TOKEN_SECONDS, load_times, mean_work

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Pull against push on 10 to 1,000 GPU replicas (simulation)"
VERSIONS = ("simpy", "numpy")

ABOUT = """This is a discrete-event simulation (SimPy) of the generator's queue, not a cluster. A replica answers
8 requests at once. Requests arrive at random; answers are as long as in Azure's conversation trace of 2023 (log-normal,
median 151 tokens, mean 219; `benchmarks/simulation/workload.py`) at an assumed 40 tokens a second, so one takes 5.5 s
on average.

- **pull** is Sluice: one shared queue, and a replica takes the oldest request when it has a free slot. It pays this
  platform's own measured hop and fetch (`stage_times.json`), and 5 s before the broker gives the work of a dead replica
  to another. The other policies choose at no cost and have one router, and their callers resend a request at once when
  its replica dies.
- **bounded two choices** is the router of Ray Serve 2.60 with `max_ongoing_requests` at the number of slots: a request
  that finds no free slot stays with the router, which tries again every 25 to 500 ms.
- With the other policies a request waits in the queue of the replica that was chosen on arrival. **least loaded** and
  **two choices** know all queues exactly, at no cost. **least loaded, 8 routers** is eight of them, which all look
  every 100 ms; between looks each knows only what it has sent itself.

The simulation omits the following: a sequence does not become slower when its replica fills up, prompts take no extra
time, there are no prefix caches (a router that knows them may save more than any queue costs), and the broker has no
limits. A run starts empty, so at high load the policies with the longest waits have not even settled."""

SHOWN: Final = (0.7, 0.9, 0.95)
"""Loads that the table has a column for; the plot has all."""

FULL: Final = Plan(
    sizes={
        10: ((0.5, 0.7, 0.8, 0.9, 0.95), 300, 1200, 5),
        100: ((0.5, 0.7, 0.8, 0.9, 0.95), 100, 300, 3),
        1000: ((0.7, 0.9, 0.95), 40, 60, 2),
    },
    seeds=3,
    replicas=100,
    seconds=240,
)
QUICK: Final = Plan(
    sizes={10: ((0.7, 0.9), 60, 120, 2), 100: ((0.9,), 30, 60, 1)},
    seeds=1,
    replicas=20,
    seconds=120,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own: the plans are above."""


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    plan = QUICK if arguments.quick else FULL
    times = load_times()
    return {
        "assumed": {"slots": scenarios.SLOTS, "token_seconds": TOKEN_SECONDS, "mean_seconds": mean_work()},
        "times": asdict(times),
        "replicas": plan.replicas,
        "steady": scenarios.steady(plan, times),
        "shapes": scenarios.shapes(plan, times),
        "slow": scenarios.slow_replicas(plan, times),
        "deaths": scenarios.deaths(plan, times),
        "growth": scenarios.growth(plan, times),
        "short": scenarios.short_work(plan, times),
    }


Rows = list[dict[str, Any]]


def table(results: dict[str, Any]) -> str:
    n, costs = results["replicas"], results["times"]["costs"]
    shown = [row for row in results["steady"] if row["load"] in SHOWN]
    sizes = sorted({row["replicas"] for row in shown})
    middle = sizes[len(sizes) // 2]
    parts = [
        f"Seconds, median over seeds (least-most). Pull pays {costs['hop'] * 1e3:.2f} ms for the hop "
        f"and {costs['fetch'] * 1e3:.2f} ms for each fetch.",
        "Time in queue, p99, by replicas and load:",
        _pivot(shown, lambda row: f"{row['replicas']:,} at {row['load']:g}", "wait_p99"),
        f"Time in queue and whole time of {middle} replicas at a load of 0.9:",
        _whole([row for row in shown if (row["replicas"], row["load"]) == (middle, 0.9)]),
        f"Time in queue, p99, of {n} replicas at a load of 0.9, by requests at once per replica and tail of answers "
        "(with 32 at once a quarter of the replicas; Pareto: shape 1.3, same mean):",
        _pivot(results["shapes"], lambda row: f"{row['slots']} at once, {row['lengths']}", "wait_p99"),
        f"{n} replicas in trouble. *Slow*: one in ten works at half speed, at a load of 0.8; p99 of the time in "
        "queue and of the whole time. *Death*: one in twenty dies, at a load of 0.9; per death, the requests that lost "
        "work or place, the seconds of GPU slots thrown away, and the p50 of the whole time of those requests. "
        "*Growth*: half as many replicas more after a minute of overload; seconds until all that waited then has "
        "begun, and the p99 of the time in queue of who comes in the minute after.",
        _trouble(results),
        f"Where pull costs: work of {results['times']['embed'] * 1e3:.0f} ms, as embedding a question takes, on ten "
        "replicas with one slot each; whole time, ms. What looks for room only every 25 ms and more wastes slots here: "
        "one would give it a looser bound, and have two choices.",
        _short(results["short"]),
    ]
    return "\n\n".join(parts)


def _whole(rows: Rows) -> str:
    figures = {"wait_p50": "in queue, p50", "wait_p99": "p99", "whole_p50": "whole, p50", "whole_p99": "p99"}
    lines = [[p, *(_median([r for r in rows if r["policy"] == p], figure) for figure in figures)] for p in POLICIES]
    return _markdown(["", *figures.values()], lines)


def _pivot(rows: Rows, head: Any, figure: str) -> str:
    heads = list(dict.fromkeys(head(row) for row in rows))
    lines = [
        [p, *(_median([r for r in rows if r["policy"] == p and head(r) == h], figure) for h in heads)] for p in POLICIES
    ]
    return _markdown(["", *heads], lines)


def _trouble(results: dict[str, Any]) -> str:
    heads = [
        "",
        "slow: in queue",
        "whole",
        "death: requests hit",
        "thrown away",
        "their p99",
        "growth: old",
        "new, p99",
    ]
    lines = []
    for policy in POLICIES:
        slow, deaths, growth = (
            [row for row in results[name] if row["policy"] == policy] for name in ("slow", "deaths", "growth")
        )
        figures = [_median(slow, "wait_p99"), _median(slow, "whole_p99"), _median(deaths, "hit", ".1f")]
        figures += [_median(deaths, "wasted", ".0f"), _median(deaths, "whole_p50", ".1f")]
        lines.append([policy, *figures, _median(growth, "backlog_gone", ".1f"), _median(growth, "wait_p99")])
    return _markdown(heads, lines)


def _short(rows: Rows) -> str:
    heads = ["", *(f"{part} at {load:g}" for load in (0.5, 0.8) for part in ("p50", "p99"))]
    lines = []
    for policy in POLICIES:
        cells = []
        for load in (0.5, 0.8):
            of = [row for row in rows if row["policy"] == policy and row["load"] == load]
            medians = (suite.spread([row[f] for row in of])["median"] for f in ("whole_p50", "whole_p99"))
            cells += [f"{median * 1e3:.1f}" for median in medians]
        lines.append([policy, *cells])
    return _markdown(heads, lines)


def _median(rows: Rows, figure: str, form: str = ".2f") -> str:
    values = [row[figure] for row in rows]
    if f"{max(values):{form}}" == f"{0:{form}}":
        return "0"
    return suite.show(suite.spread(values), form) if len(values) > 1 else f"{values[0]:{form}}"


def _markdown(heads: list[str], lines: list[list[str]]) -> str:
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)], *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def plot(results: dict[str, Any], figure: "Figure") -> None:
    """The p99 of the time in queue over the load, one panel for each number of replicas."""
    sizes = sorted({row["replicas"] for row in results["steady"]})
    panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
    for panel, replicas in zip(panels, sizes, strict=True):
        for place, (policy, colour) in enumerate(zip(POLICIES, (*COLOURS, "black"), strict=True)):
            waits = defaultdict[float, list[float]](list)
            for row in results["steady"]:
                if row["replicas"] == replicas and row["policy"] == policy:
                    # A logarithmic axis has no place for nothing.
                    waits[row["load"]].append(max(row["wait_p99"], 1e-3))
            spreads = {load: suite.spread(values) for load, values in waits.items()}
            middle, low, high = ([each[end] for each in spreads.values()] for end in ("median", "min", "max"))
            # The first lie above the others, where many wait for nothing.
            over = {"color": colour, "zorder": len(POLICIES) - place + 2}
            panel.plot(list(spreads), middle, marker="o", label=policy, **over)
            panel.fill_between(list(spreads), low, high, color=colour, alpha=0.15)
        panel.set(title=f"{replicas:,} replicas", xlabel="load", yscale="log")
    panels[0].set_ylabel("time in queue, p99, s")
    figure.set_size_inches(9, 4.5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
