"""The three measurements: more replicas, more tenants, and one tenant that floods the others."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Any, Final

import nats

from benchmarks import suite
from benchmarks.growth.clients import QueryClient, flood, paced
from benchmarks.growth.platform import SLOW_MS, STAGES, Platform, running
from benchmarks.load import percentile
from shared.nats.subjects import QUERIES

__all__ = ["ROOM", "flooding", "replicas", "tenants"]

ROOM: Final = 4
"""Queries that a replica works on at once."""

IN_FLIGHT: Final = 64
FLOOD: Final = 256
QUIET: Final = 20
EVERY: Final = 0.5
"""Seconds between two questions of a quiet tenant."""

Row = dict[str, Any]


async def _load(platform: Platform, pipeline: str, concurrent: int, seconds: float, tenants: int = 1) -> Row:
    requests = [platform.request(tenant, pipeline) for tenant in range(tenants)]
    result = await suite.load(platform.url, itertools.cycle(requests), concurrent=concurrent, seconds=seconds)
    assert not result.failed, f"{result.failed} queries failed"
    return result.summary()


async def replicas(counts: Sequence[int], rounds: int, seconds: float) -> list[Row]:
    """Each stage in turn is the slow one. Saturated: 64 queries in work; at half load: half the slots of a stage."""
    rows: list[Row] = []
    with running() as platform:
        for count in counts:
            for _ in range(count - platform.replicas[STAGES[0]]):
                platform.add(ROOM)
            await platform.add_tenants(1)
            for _, slow in suite.interleave(STAGES, rounds):
                full = await _load(platform, f"slow-{slow}", IN_FLIGHT, seconds)
                half = await _load(platform, f"slow-{slow}", count * ROOM // 2, seconds)
                ideal = count * ROOM / SLOW_MS * 1e3
                row = {"slow": slow, "replicas": count, "ideal": ideal, "per_second": full["per_second"]}
                rows.append(row | {"full_p99_ms": full["p99_ms"], "p50_ms": half["p50_ms"], "p99_ms": half["p99_ms"]})
            suite.say(f"{count} replicas: {rows[-1]['per_second']:.0f} queries/s of {rows[-1]['ideal']:.0f}")
    return rows


async def tenants(counts: Sequence[int], rounds: int, seconds: float) -> Row:
    """The same load from ever more tenants, each with a key and a collection of its own. Memory is taken as they
    come; then the numbers of tenants take turns."""
    memory: list[Row] = []
    runs: list[Row] = []
    with running() as platform:
        platform.add(IN_FLIGHT)
        for count in counts:
            began = time.perf_counter()
            await platform.add_tenants(count)
            added = time.perf_counter() - began
            await _load(platform, "even", IN_FLIGHT, seconds, count)
            memory.append({"tenants": count, "added_s": added} | await _memory(platform))
            suite.say(f"{count} tenants: gateway {memory[-1]['gateway_mib']:.0f} MiB")
        for _, count in suite.interleave(counts, rounds):
            runs.append({"tenants": count} | await _load(platform, "even", IN_FLIGHT, seconds, count))
    return {"memory": memory, "runs": runs}


async def _memory(platform: Platform) -> Row:
    client = await nats.connect(platform.broker.url)
    info = await client.jetstream().stream_info(QUERIES)
    account = await client.jetstream().account_info()
    await client.close()
    assert platform.broker._process is not None
    return {
        "gateway_mib": suite.Usage([platform.gateway.pid]).rss_mib(),
        "broker_mib": suite.Usage([platform.broker._process.pid]).rss_mib(),
        "query_consumers": info.state.consumer_count,
        "consumers": account.consumers,
        "streams": account.streams,
    }


async def flooding(seconds: float, rounds: int) -> list[Row]:
    """Twenty quiet tenants ask twice a second each; a further one keeps 256 questions in work. The slow stage has two
    replicas, so the flood alone would fill it three times over."""
    rows: list[Row] = []
    for limit in (1000, 32):
        with running(queue_limit=limit) as platform:
            platform.add(ROOM)
            platform.add(ROOM)
            await platform.add_tenants(QUIET + 1)
            for _, flooded in suite.interleave((False, True), rounds):
                row = {"queue_limit": limit, "flooded": flooded} | await _share(platform, flooded, seconds)
                rows.append(row)
                suite.say(f"limit {limit}, {'flood' if flooded else 'calm'}: p99 {row['p99_ms']:.0f} ms")
    return rows


async def _share(platform: Platform, flooded: bool, seconds: float) -> Row:
    pipeline = "slow-generate"
    quiet = [QueryClient(platform.url, platform.request(number, pipeline)) for number in range(1, QUIET + 1)]
    many = [QueryClient(platform.url, platform.request(0, pipeline)) for _ in range(FLOOD if flooded else 0)]
    seen: list[float] = []
    began = time.perf_counter()
    until = began + seconds
    paced_queries = [paced(ask, EVERY, until, EVERY * number / QUIET, seen) for number, ask in enumerate(quiet)]
    failed, floods = await asyncio.gather(
        asyncio.gather(*paced_queries), asyncio.gather(*(flood(ask, until) for ask in many))
    )
    took = time.perf_counter() - began
    for asker in (*quiet, *many):
        asker.close()
    return {
        "p50_ms": percentile(seen, 0.5) * 1e3,
        "p99_ms": percentile(seen, 0.99) * 1e3,
        "answers": len(seen),
        "failed": sum(failed),
        "flood_per_second": sum(answers for answers, _ in floods) / took,
        "flood_refused": sum(refusals for _, refusals in floods),
    }
