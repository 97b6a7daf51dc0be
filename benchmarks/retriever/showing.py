"""The table, the targets and the plot."""

from typing import TYPE_CHECKING, Any, Final

from benchmarks import suite
from benchmarks.retriever.searching import CASES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot", "table", "targets"]

ASKED: Final = "hybrid, memory"
P50_MS: Final = {100_000: 2.5, 1_000_000: 8.0}
"""By passages, what a hybrid search in memory may take."""
PER_SECOND: Final = 600
RECALL: Final = 0.99
SLOWER: Final = 2
"""Times as long that it may take beside a writer."""


def table(results: dict[str, Any]) -> str:
    lines = ["| passages | search | recall@10 | p50 ms | p99 ms | searches/s | busy p99 ms |"]
    lines.append("|---:|---|---:|---:|---:|---:|---:|")
    for size in results["sizes"]:
        lines += [
            f"| {size['passages']:,} | {case['case']} | {case['recall']:.3f} "
            f"| {suite.show(case['p50_ms'], '.1f')} | {case['p99_ms']['median']:.1f} "
            f"| {suite.show(case['per_second'])} | {case['busy_p99_ms']['median']:.0f} |"
            for case in size["cases"]
        ]
    lines += [
        "",
        "| passages | beside a writer, passages/s | searched in | recall@10 | p50 ms | p99 ms |",
        "|---:|---:|---|---:|---:|---:|",
    ]
    for size in results["sizes"]:
        lines += [
            f"| {size['passages']:,} | {writing['passages_per_second']:,.0f} | {place} | {writing['recall']:.3f} "
            f"| {writing['p50_ms']:.1f} | {writing['p99_ms']:.1f} |"
            for place, writing in size["writing"].items()
        ]
    steps = results["sizes"][0]["tail"]["disk"]
    lines += ["", f"| passages | searched in | {' | '.join(map(_step, steps))} |", f"|---:|---|{'---:|' * len(steps)}"]
    for size in results["sizes"]:
        for place, tail in size["tail"].items():
            figures = " | ".join(format(step["p50_ms"], ".1f") for step in tail)
            lines.append(f"| {size['passages']:,} | {place} | {figures} |")
    return "\n".join([*lines, "", *_starts(results), "", *_costs(results)])


def _starts(results: dict[str, Any]) -> list[str]:
    lines = [
        "| passages | s until searched in memory | with the cache | bytes a passage in memory | cache MiB |",
        "|---:|---:|---:|---:|---:|",
    ]
    for size in results["sizes"]:
        count = size["passages"]
        lines.append(
            f"| {count:,} | {size['start_s']:.1f} | {size['cached_start_s']:.1f} "
            f"| {size['memory_bytes'] / count:,.0f} | {size['cache_bytes'] / 2**20:,.0f} |"
        )
    return lines


def _step(step: dict[str, float]) -> str:
    return f"p50 ms, {step['uncovered']:,.0f} not indexed yet"


def _costs(results: dict[str, Any]) -> list[str]:
    """What grows with the number of passages, and how."""
    lines = [
        "| passages | writing s | passages/s | upkeep s | upkeep after 1,000 more s | on disk MiB | bytes a passage "
        "| RSS MiB, opened | after searches on disk | after searches in memory | after building |",
        "|---:|" + "---:|" * 10,
    ]
    for size in results["sizes"]:
        count = size["passages"]
        lines.append(
            f"| {count:,} | {size['write_s']:.1f} | {count / size['write_s']:,.0f} | {size['upkeep_s']:.1f} "
            f"| {size['more_upkeep_s']:.1f} | {size['bytes'] / 2**20:,.0f} | {size['bytes'] / count:,.0f} "
            f"| {size['open_rss_mib']:,.0f} | {size['disk_rss_mib']:,.0f} | {size['memory_rss_mib']:,.0f} "
            f"| {size['build_rss_mib']:,.0f} |"
        )
    return [*lines, "", _growth(results)]


def _growth(results: dict[str, Any]) -> str:
    sizes = results["sizes"]
    if len(sizes) < 2:
        return ""
    first, last = sizes[0], sizes[-1]
    times = last["passages"] / first["passages"]

    def grew(key: str) -> str:
        return f"{last[key] / first[key]:,.1f}"

    def slower(place: str) -> float:
        hybrid = [next(case for case in size["cases"] if case["case"] == f"hybrid, {place}") for size in (first, last)]
        return float(hybrid[1]["p50_ms"]["median"] / hybrid[0]["p50_ms"]["median"])

    return f"""\
From {first["passages"]:,} to {last["passages"]:,} passages, {times:,.0f} times as many: {grew("bytes")} times the bytes
on disk, {grew("write_s")} times the time of writing and {grew("upkeep_s")} times that of all upkeep, and
{slower("disk"):,.1f} times the p50 of a hybrid search on disk, {slower("memory"):,.1f} times in memory. A passage's
bytes on disk are its vector (1,536), its text and metadata, the index of words and that of vectors."""


def targets(results: dict[str, Any]) -> list[suite.Target]:
    return [target for size in results["sizes"] if size["passages"] in P50_MS for target in _targets(size)]


def _targets(size: dict[str, Any]) -> list[suite.Target]:
    where = f"{size['passages']:,} passages, hybrid search in memory"
    case = next(case for case in size["cases"] if case["case"] == ASKED)
    p50, most = case["p50_ms"]["median"], P50_MS[size["passages"]]
    beside = size["writing"]["memory"]["p50_ms"]
    found = [
        suite.Target(f"{where}: p50 {most} ms or less", f"{suite.show(case['p50_ms'], '.1f')} ms", p50 <= most),
        suite.Target(f"{where}: recall@10 {RECALL} or more", f"{case['recall']:.3f}", case["recall"] >= RECALL),
        suite.Target(
            f"{where}: p50 beside a writer at most {SLOWER} times that without",
            f"{beside / p50:.1f} times",
            beside <= SLOWER * p50,
        ),
    ]
    if size["passages"] == min(P50_MS):
        rate = case["per_second"]
        found.append(suite.Target(f"{where}: {PER_SECOND} searches/s", suite.show(rate), rate["median"] >= PER_SECOND))
    return found


def plot(results: dict[str, Any], figure: "Figure") -> None:
    left, right = figure.subplots(1, 2)
    sizes = results["sizes"]
    counts = [size["passages"] for size in sizes]
    colours = {"vector": "C0", "text": "C1", "hybrid": "C2"}
    for shown in (case for case in CASES if case.permille in (10, 1000)):
        cases = [next(case for case in size["cases"] if case["case"] == str(shown)) for size in sizes]
        marker = "o" if shown.place == "memory" else "x"
        style = {"color": colours[shown.mode], "linestyle": "-" if shown.permille == 1000 else "--", "marker": marker}
        left.plot(counts, [case["p50_ms"]["median"] for case in cases], **style, label=str(shown))
        right.plot(counts, [case["per_second"]["median"] for case in cases], **style)
    for axes, title in ((left, "p50 of one search, ms"), (right, "searches a second, 16 at once")):
        axes.set_xscale("log")
        axes.set_xticks(counts, [f"{count:,}" for count in counts], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("passages")
        axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=3)
