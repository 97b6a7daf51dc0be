"""Autoscaling after a pause and under more load, simulated: `python -m benchmarks.autoscaling [--quick]`."""

import argparse
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import yaml

from benchmarks import suite
from benchmarks.autoscaling.autoscaler import DEFAULT_UP, Autoscaler, Rules
from benchmarks.autoscaling.stage import DEADLINE, SYNC, Costs, Outcome, simulate
from benchmarks.simulation.workload import STAGE_TIMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Autoscaling after a pause and under more load (simulation)"
VERSIONS = ("numpy",)

DEFAULTS, BASE = "defaults", "base"
SERVICES: Final = {"retriever": "retrieve", "embedder": "embed"}
PAUSES: Final = (2.0, 10.0, 30.0)
BEGIN: Final = 120.0
LOAD: Final = 0.5
MORE: Final = 1.7
SMALL, LARGE = 4.0, 12.0
"""Cores."""

AFTER: Final = 240.0
"""Seconds that are simulated from the beginning of what happens."""

ABOUT = f"""This simulates Kubernetes' autoscaler on the broker's backlog, not a cluster: a look every 15 s, 10 % of
tolerance, stabilisation windows and steps, as documented. The metric is scraped every 15 s. A stage has two Pods, and
ten at most. Serving and starting Pods share four cores. A query needs the CPU time that this platform measured for the
stage (`stage_times.json`), and a start what [the start-up benchmark](#cold-start-and-memory-of-each-service) measured.
Queries arrive at random and are dropped after {DEADLINE:.0f} s.

- **a pause**: the broker is away for some seconds while the load is half of what two Pods serve. What arrived meanwhile
  is served afterwards; more Pods are no help.
- **more load**: the load rises to {MORE} times what two Pods serve, on twelve cores. More Pods are needed.

*defaults* is what Kubernetes does by itself: no window, and steps of double or four Pods in 15 s. *base* is what
`deploy/k8s/base` sets: a backlog counts once it has lasted for the window, and steps are small. The price is the longer
wait while the load grows. A row is the median over seeds and phases of the autoscaler's clock (least-most)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=20, help="runs of each scenario")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    seeds = 3 if arguments.quick else arguments.seeds
    rows, timelines = [], []
    for service, stage in SERVICES.items():
        costs = _costs(service, stage)
        for name, up in _behaviors(service).items():
            for scenario in (*PAUSES, None):
                runs = [_run(service, costs, up, scenario, seed) for seed in range(seeds)]
                rows += [{"service": service, "behavior": name, "pause": scenario, **_figures(run)} for run in runs]
                if service == "embedder":
                    timelines.append({"behavior": name, "pause": scenario, "pods": _mean(runs)})
        suite.say(f"simulated {service}")
    return {"behaviors": _described(), "rows": rows, "timelines": timelines}


def _mean(runs: list[Outcome]) -> list[float]:
    """The mean number of Pods, once a second."""
    return [round(float(pods), 2) for pods in np.mean([run.pods for run in runs], axis=0)]


def _costs(service: str, stage: str) -> Costs:
    measured = json.loads((suite.RESULTS / "startup.json").read_text())["results"]["services"][service]
    times = json.loads(STAGE_TIMES.read_text())["stages"][stage]
    start, ready = measured["cpu_s"]["median"], measured["ready_s"]["median"]
    return Costs(work=times["worked"]["p50"] / 1e3, start=start, idle=max(0.0, ready - start))


def _shipped(service: str) -> Autoscaler:
    file = suite.ROOT / "deploy" / "k8s" / "base" / "sluice" / service / "autoscaling.yaml"
    return Autoscaler.of(yaml.safe_load(file.read_text()))


def _behaviors(service: str) -> dict[str, Rules]:
    return {DEFAULTS: DEFAULT_UP, BASE: _shipped(service).up}


def _described() -> dict[str, Any]:
    up = _shipped("retriever").up
    return {"window": up.window, "steps": [[step.kind, step.value, step.period] for step in up.steps]}


def _run(service: str, costs: Costs, up: Rules, pause: float | None, seed: int) -> Outcome:
    rng = np.random.default_rng((8, seed))
    shipped = _shipped(service)
    autoscaler = replace(shipped, up=up)
    served = shipped.least / costs.work
    seconds = BEGIN + AFTER
    arrivals = _arrivals(rng, LOAD * served, 0, seconds if pause is not None else BEGIN)
    if pause is None:
        arrivals = np.concatenate([arrivals, _arrivals(rng, MORE * served, BEGIN, seconds)])
    return simulate(
        autoscaler,
        costs,
        arrivals,
        seconds=seconds,
        cores=LARGE if pause is None else SMALL,
        phase=SYNC * rng.random(),
        pause=None if pause is None else (BEGIN, BEGIN + pause),
    )


def _arrivals(rng: np.random.Generator, rate: float, begin: float, end: float) -> "np.ndarray[Any, Any]":
    count = int(rng.poisson(rate * (end - begin)))
    return np.sort(rng.random(count)) * (end - begin) + begin


def _figures(outcome: Outcome) -> dict[str, float]:
    late = [wait for arrived, wait in outcome.waits if arrived >= BEGIN]
    pods = np.array(outcome.pods)
    caught_up = [at for at, backlog in enumerate(outcome.backlog) if at >= BEGIN and backlog > 100]
    return {
        "most": int(pods.max()),
        "extra": float((pods - pods[0]).clip(min=0).sum()),
        "missed": outcome.missed,
        "wait_p99": float(np.percentile(late, 99)),
        "caught_up": float(caught_up[-1] + 1 - BEGIN) if caught_up else 0.0,
    }


Rows = list[dict[str, Any]]

HEADS: Final = {
    "most": ("most Pods", ".0f"),
    "extra": ("Pod seconds above two", ",.0f"),
    "missed": ("queries dropped", ",.0f"),
    "wait_p99": ("wait p99, s", ".1f"),
    "caught_up": ("backlog gone after, s", ".0f"),
}


def table(results: dict[str, Any]) -> str:
    ((kind, value, period),) = results["behaviors"]["steps"]
    assert kind == "Pods"
    heads = ["", "", "", *(head for head, _ in HEADS.values())]
    lines = [heads, ["---", "---", "---", *["---:"] * len(HEADS)]]
    lines += [
        [service, _scenario(pause), behavior, *_cells(results["rows"], service, pause, behavior)]
        for service in SERVICES
        for pause in (*PAUSES, None)
        for behavior in (DEFAULTS, BASE)
    ]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    window = results["behaviors"]["window"]
    return f"The window is {window} s, and a step at most {value} Pods in {period} s.\n\n{text}"


def _cells(rows: Rows, service: str, pause: float | None, behavior: str) -> Iterable[str]:
    chosen = [r for r in rows if (r["service"], r["pause"], r["behavior"]) == (service, pause, behavior)]
    for figure, (_, form) in HEADS.items():
        yield suite.show(suite.spread([row[figure] for row in chosen]), form)


def _scenario(pause: float | None) -> str:
    return "more load" if pause is None else f"a pause of {pause:.0f} s"


def plot(results: dict[str, Any], figure: "Figure") -> None:
    """Pods of the embedder over time, one panel for each scenario: the mean of all runs."""
    panels = figure.subplots(1, len(PAUSES) + 1, sharey=True)
    for panel, pause in zip(panels, (*PAUSES, None), strict=True):
        for behavior, style in ((BASE, "-"), (DEFAULTS, "--")):
            (timeline,) = (t for t in results["timelines"] if (t["behavior"], t["pause"]) == (behavior, pause))
            seconds = np.arange(len(timeline["pods"])) - BEGIN
            panel.plot(seconds, timeline["pods"], style, drawstyle="steps-post", label=behavior)
        panel.set(title=_scenario(pause), xlabel="s", xlim=(-20, AFTER), ylim=(0, 10.5))
    panels[0].set_ylabel("Pods of the embedder, mean")
    figure.set_size_inches(9, 3.5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
