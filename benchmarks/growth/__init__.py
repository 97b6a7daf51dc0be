"""What more replicas bring and what more tenants cost: `python -m benchmarks.growth [--quick]`."""

import argparse
from typing import TYPE_CHECKING, Any

import uvloop

from benchmarks import suite
from benchmarks.growth import measures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Growth: replicas of each stage, and tenants"
VERSIONS = ("psutil",)

ABOUT = """A real nats-server, a real gateway that requires API keys, and real stage processes on the shared
stage runtime. Only the work is simulated: a stage waits, so that many replicas fit on the few cores of this machine. A
replica works on 4 queries at once, for 50 ms each in the slow stage and 1 ms in the two others. So one replica can do
at most 80 queries a second, and each further one adds 80.

- *Replicas*: 1 to 4 of all three stages, each stage in turn the slow one; 64 queries in progress, and then half as many
  as the slow stage has slots.
- *Tenants*: 1 to 1,000, each with its own API key and collection, 64 queries in progress from all of them in turn,
  with stages of 1 ms; and the memory of gateway and broker.
- *Flood*: 20 tenants each send two queries a second, on two replicas. In the flood another tenant keeps 256 queries in
  progress, and waits for a second when it is refused. Times count from the scheduled time of a query. A queue is first
  in, first out, so the limit per tenant protects the others: `SLUICE_QUEUE_LIMIT`, here 1000, the default, and 32."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=2, help="times that each is measured, in turn")
    parser.add_argument("--seconds", type=float, default=1.2, help="time of one measurement; the flood's is 3 times it")
    parser.add_argument("--replicas", nargs="+", type=int, default=[1, 2, 3, 4])
    parser.add_argument("--tenants", nargs="+", type=int, default=[1, 10, 100, 1000])


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.quick:
        arguments.rounds, arguments.seconds, arguments.replicas, arguments.tenants = 1, 1.0, [1, 2], [1, 20]
    rounds, seconds = arguments.rounds, arguments.seconds
    return {
        "replicas": uvloop.run(measures.replicas(arguments.replicas, rounds, seconds)),
        "tenants": uvloop.run(measures.tenants(arguments.tenants, rounds, seconds)),
        "flood": uvloop.run(measures.flooding(3 * seconds, rounds)),
    }


Rows = list[dict[str, Any]]


def table(results: dict[str, Any]) -> str:
    return "\n\n".join([_replicas(results["replicas"]), _tenants(results["tenants"]), _flood(results["flood"])])


def _replicas(rows: Rows) -> str:
    lines = ["| slow stage | replicas | queries/s at 64 in progress | of the maximum | p50 ms at half load | p99 ms |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for slow, count in sorted({(row["slow"], row["replicas"]) for row in rows}, key=lambda key: (key[1], key[0])):
        of = [row for row in rows if (row["slow"], row["replicas"]) == (slow, count)]
        rate = _spread(of, "per_second")
        lines.append(
            f"| {slow} | {count} | {suite.show(rate)} | {rate['median'] / of[0]['ideal']:.0%} "
            f"| {suite.show(_spread(of, 'p50_ms'))} | {suite.show(_spread(of, 'p99_ms'))} |"
        )
    return "\n".join(lines)


def _tenants(results: dict[str, Any]) -> str:
    lines = [
        "| tenants | queries/s | p50 ms | p99 ms | gateway MiB | nats-server MiB | consumers of queries | of all |"
    ]
    lines.append("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for memory in results["memory"]:
        of = [row for row in results["runs"] if row["tenants"] == memory["tenants"]]
        spreads = (suite.show(_spread(of, figure)) for figure in ("per_second", "p50_ms", "p99_ms"))
        lines.append(
            f"| {memory['tenants']:,} | {' | '.join(spreads)} | {memory['gateway_mib']:.0f} "
            f"| {memory['broker_mib']:.0f} | {memory['query_consumers']} | {memory['consumers']} |"
        )
    return "\n".join(lines)


def _flood(rows: Rows) -> str:
    lines = [
        "| others, while one tenant is | queue limit | p50 ms | p99 ms | failed | answers/s of the flood | refused |"
    ]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    for limit, flooded in dict.fromkeys((row["queue_limit"], row["flooded"]) for row in rows):
        of = [row for row in rows if (row["queue_limit"], row["flooded"]) == (limit, flooded)]
        lines.append(
            f"| {'flooding' if flooded else 'calm'} | {limit:,} | {suite.show(_spread(of, 'p50_ms'))} "
            f"| {suite.show(_spread(of, 'p99_ms'))} | {sum(row['failed'] for row in of)} "
            f"| {suite.show(_spread(of, 'flood_per_second'))} | {sum(row['flood_refused'] for row in of)} |"
        )
    return "\n".join(lines)


def _spread(rows: Rows, figure: str) -> dict[str, float]:
    return suite.spread([row[figure] for row in rows])


def plot(results: dict[str, Any], figure: "Figure") -> None:
    """Queries per second over replicas, and over tenants."""
    left, right = figure.subplots(1, 2)
    rows = results["replicas"]
    counts = sorted({row["replicas"] for row in rows})
    for slow in dict.fromkeys(row["slow"] for row in rows):
        medians = [_spread([r for r in rows if (r["slow"], r["replicas"]) == (slow, c)], "per_second") for c in counts]
        left.plot(counts, [each["median"] for each in medians], "o-", label=f"{slow} is slow")
    left.plot(
        counts, [count * rows[0]["ideal"] / rows[0]["replicas"] for count in counts], "k--", label="best possible"
    )
    left.set(xlabel="replicas of each stage", ylabel="queries per second", xticks=counts, ylim=(0, None))
    left.legend()
    runs = results["tenants"]["runs"]
    tenants = sorted({row["tenants"] for row in runs})
    spreads = [_spread([row for row in runs if row["tenants"] == count], "per_second") for count in tenants]
    right.plot(tenants, [each["median"] for each in spreads], "o-")
    right.fill_between(tenants, [each["min"] for each in spreads], [each["max"] for each in spreads], alpha=0.15)
    right.set(xlabel="tenants", ylabel="queries per second", xscale="log", ylim=(0, None))
