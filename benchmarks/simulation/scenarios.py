"""What is simulated: steady load, slow replicas, replicas that die, replicas that are added, and short work.

Every policy meets the same requests at the same times; seeds change both. Each function returns one row per run.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import simpy

from benchmarks import suite
from benchmarks.simulation.cluster import Cluster, Costs, Job
from benchmarks.simulation.policies import POLICIES
from benchmarks.simulation.workload import Times, arrivals, mean_work

__all__ = ["SLOTS", "Plan", "deaths", "growth", "shapes", "short_work", "slow_replicas", "steady", "waits"]

SLOTS: Final = 8
"""Sequences that a replica works on at once."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is simulated. `sizes`, by number of replicas: loads, seconds to warm up, seconds measured, seeds."""

    sizes: dict[int, tuple[tuple[float, ...], float, float, int]]
    seeds: int
    replicas: int
    seconds: float


def simulate(
    policy: str,
    jobs: Sequence[Job],
    replicas: int,
    *,
    slots: int = SLOTS,
    seed: int,
    costs: Costs,
    slow: frozenset[int] = frozenset(),
    changes: Iterable[tuple[float, str, int]] = (),
) -> Cluster:
    """Run copies of the jobs to their ends. `changes` are deaths and growth: (at, "kill" or "grow", which or how many).

    The cluster's `done` are the jobs in the order of their arrival.
    """
    env = simpy.Environment()
    cluster = Cluster(env, POLICIES[policy](), replicas, slots, seed, costs, slow)
    own = [Job(job.arrived, job.work) for job in jobs]
    cluster.submit(own)
    for at, what, number in changes:
        event = env.timeout(at, (what, number))
        event.callbacks.append(lambda event: getattr(cluster, event.value[0])(event.value[1]))  # type: ignore[union-attr]
    env.run()
    assert len(cluster.done) == len(own), "every request ends, once"
    cluster.done = own
    return cluster


def waits(cluster: Cluster, jobs: Iterable[Job], before: float = 0.0) -> Row:
    """Percentiles of the time in queue, and of the whole time including `before` and the answer. Seconds.

    A request that began anew has waited until its last start.
    """
    overhead = cluster.policy.overhead
    chosen = list(jobs)
    wait = np.array([job.started - job.arrived for job in chosen]) + overhead
    whole = np.array([job.ended - job.arrived for job in chosen]) + overhead + before
    wait_p50, wait_p99 = np.percentile(wait, (50, 99))
    whole_p50, whole_p99 = np.percentile(whole, (50, 99))
    return {
        "requests": len(chosen),
        "wait_mean": float(wait.mean()),
        "wait_p50": float(wait_p50),
        "wait_p99": float(wait_p99),
        "whole_p50": float(whole_p50),
        "whole_p99": float(whole_p99),
    }


def rate(load: float, replicas: int, slots: int = SLOTS) -> float:
    """Requests a second that take this share of all slots."""
    return load * replicas * slots / mean_work()


def steady(plan: Plan, times: Times) -> list[Row]:
    """The same load for a while, by the number of replicas and the load."""
    rows = []
    for replicas, (loads, warm_up, seconds, seeds) in plan.sizes.items():
        for load in loads:
            for seed in range(seeds):
                rng = np.random.default_rng((1, replicas, round(load * 100), seed))
                jobs = arrivals(rate(load, replicas), warm_up + seconds, "log-normal", rng)
                for policy in POLICIES:
                    cluster = simulate(policy, jobs, replicas, seed=seed, costs=times.costs)
                    late = (job for job in cluster.done if job.arrived >= warm_up)
                    found = waits(cluster, late, times.before)
                    rows.append({"replicas": replicas, "load": load, "policy": policy, "seed": seed} | found)
        suite.say(f"simulated {replicas} replicas")
    return rows


def shapes(plan: Plan, times: Times) -> list[Row]:
    """Load 0.9, by how many requests a replica serves at once and by how heavy the tail of answers is."""
    rows = []
    for slots, kind in ((1, "log-normal"), (8, "log-normal"), (32, "log-normal"), (1, "pareto"), (8, "pareto")):
        replicas = max(10, plan.replicas * SLOTS // max(slots, SLOTS))
        for seed in range(plan.seeds):
            rng = np.random.default_rng((2, slots, len(kind), seed))
            jobs = arrivals(rate(0.9, replicas, slots), plan.seconds, kind, rng)
            for policy in POLICIES:
                cluster = simulate(policy, jobs, replicas, slots=slots, seed=seed, costs=times.costs)
                late = (job for job in cluster.done if job.arrived >= plan.seconds / 4)
                found = waits(cluster, late, times.before)
                rows.append({"slots": slots, "lengths": kind, "replicas": replicas, "policy": policy} | found)
    suite.say("simulated kinds of replicas and of answers")
    return rows


def slow_replicas(plan: Plan, times: Times) -> list[Row]:
    """One replica in ten works at half speed, with 0.8 of the load that the cluster can bear."""
    rows = []
    replicas = plan.replicas
    slow = frozenset(range(0, replicas, 10))
    for seed in range(plan.seeds):
        rng = np.random.default_rng((3, seed))
        jobs = arrivals(rate(0.8 * 0.95, replicas), plan.seconds, "log-normal", rng)
        for policy in POLICIES:
            cluster = simulate(policy, jobs, replicas, seed=seed, costs=times.costs, slow=slow)
            late = [job for job in cluster.done if job.arrived >= plan.seconds / 4]
            share = sum(job.replica in slow for job in late) / len(late)
            rows.append({"policy": policy, "on_slow": share} | waits(cluster, late, times.before))
    suite.say("simulated slow replicas")
    return rows


def deaths(plan: Plan, times: Times) -> list[Row]:
    """One replica in twenty dies, one after the other, at a load of 0.9; a fresh one stands in for it at once."""
    rows = []
    replicas = plan.replicas
    victims = range(0, replicas, 20)
    for seed in range(plan.seeds):
        rng = np.random.default_rng((4, seed))
        jobs = arrivals(rate(0.9, replicas), plan.seconds, "log-normal", rng)
        gap = plan.seconds / 2 / len(victims)
        changes = [(plan.seconds / 4 + number * gap, "kill", victim) for number, victim in enumerate(victims)]
        for policy in POLICIES:
            cluster = simulate(policy, jobs, replicas, seed=seed, costs=times.costs, changes=changes)
            hit = [job for job in cluster.done if job.hit]
            lost = {"hit": len(hit) / len(victims), "wasted": cluster.wasted / len(victims)}
            rows.append({"policy": policy} | lost | waits(cluster, hit, times.before))
    suite.say("simulated deaths")
    return rows


def growth(plan: Plan, times: Times) -> list[Row]:
    """A load of 1.3 for 60 s, then half as many replicas more and a load of 0.9 of what there was before.

    How long what waits then has still to wait, and how long those wait who come in the minute after.
    """
    rows = []
    replicas, surge = plan.replicas, 60.0
    for seed in range(plan.seeds):
        rng = np.random.default_rng((5, seed))
        jobs = arrivals(rate(1.3, replicas), surge, "log-normal", rng)
        jobs += arrivals(rate(0.9, replicas), 60.0, "log-normal", rng, begin=surge)
        for policy in POLICIES:
            changes = [(surge, "grow", replicas // 2)]
            cluster = simulate(policy, jobs, replicas, seed=seed, costs=times.costs, changes=changes)
            waiting = [job for job in cluster.done if job.arrived < surge < job.started]
            backlog = {"waiting": len(waiting), "backlog_gone": max(job.started for job in waiting) - surge}
            after = waits(cluster, (job for job in cluster.done if job.arrived >= surge), times.before)
            rows.append({"policy": policy} | backlog | after)
    suite.say("simulated growth")
    return rows


def short_work(plan: Plan, times: Times) -> list[Row]:
    """Ten replicas with one slot each, whose work takes as long as embedding a question: what pull costs there."""
    rows = []
    for load in (0.5, 0.8):
        for seed in range(plan.seeds):
            rng = np.random.default_rng((6, round(load * 100), seed))
            seconds = plan.seconds / mean_work() * times.embed * SLOTS * plan.replicas / 10
            jobs = arrivals(load * 10 / times.embed, seconds, "", rng, fixed=times.embed)
            for policy in POLICIES:
                cluster = simulate(policy, jobs, 10, slots=1, seed=seed, costs=times.costs)
                late = (job for job in cluster.done if job.arrived >= seconds / 4)
                rows.append({"load": load, "policy": policy} | waits(cluster, late))
    suite.say("simulated short work")
    return rows
