"""The simulation against what queueing theory knows, within what chance allows: four standard errors."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import simpy

from benchmarks.simulation.cluster import Cluster, Costs, Job
from benchmarks.simulation.policies import POLICIES
from benchmarks.simulation.scenarios import simulate
from benchmarks.simulation.workload import LENGTHS, arrivals, mean_work, work_times

RUNS = 10
WARM_UP = 0.25

Work = Callable[[np.random.Generator, int], "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"]


def exponential(rng: np.random.Generator, count: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    return rng.exponential(1.0, count)


def mean_wait(
    policy: str, replicas: int, load: float, requests: int, work: Work = exponential, slots: int = 1
) -> tuple[float, float]:
    """The mean time in queue in units of the mean work, and its standard error, from independent runs."""
    means = []
    for seed in range(RUNS):
        rng = np.random.default_rng((7, seed))
        times = np.cumsum(rng.exponential(1 / (load * replicas * slots), requests))
        jobs = [Job(at, each) for at, each in zip(times.tolist(), work(rng, requests).tolist(), strict=True)]
        done = simulate(policy, jobs, replicas, slots=slots, seed=seed, costs=Costs()).done
        means.append(np.mean([job.started - job.arrived for job in done[int(requests * WARM_UP) :]]))
    return float(np.mean(means)), float(np.std(means, ddof=1) / math.sqrt(RUNS))


def erlang_c(servers: int, load: float) -> float:
    """The mean wait of M/M/c in units of the mean work (Erlang, 1917)."""
    offered = load * servers
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    waits = blocked / (1 - load * (1 - blocked))
    return waits / (servers * (1 - load))


def even_arrivals(servers: int, load: float) -> float:
    """The mean wait of E_k/M/1, to which round robin over k servers amounts: the root of s = A*(1 - s)."""
    root = 0.5
    for _ in range(1000):
        root = (1 + (1 - root) / (load * servers)) ** -servers
    return root / (1 - root)


def two_choices(load: float) -> float:
    """The mean wait with two choices and many servers: the sum of load^(2^i - 2), less the work (Mitzenmacher)."""
    return math.fsum(load ** (2.0**i - 2) for i in range(1, 30)) - 1


def test_one_shared_queue_waits_as_erlang_says() -> None:
    mean, error = mean_wait("pull", 5, 0.8, 16_000, slots=2)
    assert abs(mean - erlang_c(10, 0.8)) < 4 * error


def test_random_choice_is_as_many_single_servers() -> None:
    mean, error = mean_wait("random", 5, 0.6, 8_000)
    assert abs(mean - 0.6 / (1 - 0.6)) < 4 * error


def test_random_choice_of_replicas_with_slots_is_as_many_small_clusters() -> None:
    mean, error = mean_wait("random", 3, 0.7, 8_000, slots=4)
    assert abs(mean - erlang_c(4, 0.7)) < 4 * error


def test_heavy_tails_wait_as_pollaczek_and_khinchine_say() -> None:
    def log_normal(rng: np.random.Generator, count: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
        return rng.lognormal(-0.5, 1.0, count)  # mean 1, second moment e

    mean, error = mean_wait("random", 5, 0.5, 8_000, log_normal)
    assert abs(mean - 0.5 * math.e / (2 * (1 - 0.5))) < 4 * error


def test_round_robin_waits_as_with_even_arrivals() -> None:
    mean, error = mean_wait("round robin", 5, 0.7, 8_000)
    assert abs(mean - even_arrivals(5, 0.7)) < 4 * error


def test_two_choices_wait_as_mitzenmacher_says() -> None:
    mean, error = mean_wait("two choices", 300, 0.7, 8_000)
    assert abs(mean - two_choices(0.7)) < 4 * error


@pytest.mark.parametrize("kind", LENGTHS)
def test_both_kinds_of_answers_take_the_same_time_on_average(kind: str) -> None:
    work = work_times(kind, 200_000, np.random.default_rng(8))
    assert abs(work.mean() - mean_work()) < 4 * work.std() / math.sqrt(len(work))


@pytest.mark.parametrize("policy", POLICIES)
def test_every_request_ends_although_replicas_die_and_join(policy: str) -> None:
    jobs = arrivals(20.0, 30.0, "log-normal", np.random.default_rng(9))
    changes = [(10.0, "kill", 3), (12.0, "kill", 0), (15.0, "grow", 5), (20.0, "kill", 11)]
    cluster = simulate(policy, jobs, 10, seed=9, costs=Costs(hop=0.001, fetch=0.001), changes=changes)
    assert all(job.arrived <= job.started < job.ended for job in cluster.done)
    assert any(job.hit for job in cluster.done)
    assert not any(cluster.loads) or policy == "pull"


def test_a_death_takes_what_waits_at_a_replica_only_where_it_was_pushed_there() -> None:
    hit = {}
    for policy in ("pull", "round robin"):
        jobs = [Job(0.0, 10.0) for _ in range(40)]
        cluster = simulate(policy, jobs, 10, slots=1, seed=1, costs=Costs(), changes=[(5.0, "kill", 0)])
        hit[policy] = sum(job.hit for job in cluster.done)
    assert hit == {"pull": 1, "round robin": 4}


def test_new_replicas_take_at_once_what_waits_only_where_they_pull() -> None:
    begun = {}
    for policy in ("pull", "least loaded"):
        jobs = [Job(0.0, 10.0) for _ in range(20)]
        cluster = simulate(policy, jobs, 10, slots=1, seed=1, costs=Costs(), changes=[(5.0, "grow", 10)])
        begun[policy] = max(job.started for job in cluster.done)
    assert begun == {"pull": 5.0, "least loaded": 10.0}


def test_pull_pays_for_the_fetch_only_when_something_waits() -> None:
    env = simpy.Environment()
    cluster = Cluster(env, POLICIES["pull"](), 1, 1, 1, Costs(hop=0.5, fetch=0.25))
    cluster.submit([Job(0.0, 1.0), Job(0.0, 1.0)])
    env.run()
    assert [(job.started, job.ended) for job in cluster.done] == [(0.0, 1.0), (1.25, 2.25)]
    assert cluster.policy.overhead == 0.5
