"""The embedder's results as tables and as a plot."""

from typing import TYPE_CHECKING, Any

from benchmarks.page import plain_log
from benchmarks.suite import show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot", "table"]

BUDGETED = "tokens a batch"


def table(results: dict[str, Any]) -> str:
    return "\n\n".join(part for part in (_speed(results), _plans(results), _servers(results)) if part)


def _lengths(results: dict[str, Any]) -> list[str]:
    return [key for key in next(iter(results["speed"].values())) if key.isdigit()]


def _speed(results: dict[str, Any]) -> str:
    lengths = _lengths(results)
    heads = [f"{int(length):,} characters, texts/s" for length in lengths]
    lines = [
        f"| | {' | '.join(heads)} | query p50, ms | p99, ms | cosine | nDCG@10 | start, s | memory, MiB |",
        "|---|" + "---|" * (len(heads) + 6),
    ]
    for name, speed in results["speed"].items():
        quality = results["quality"][name]
        rates = " | ".join(show(speed[length]) for length in lengths)
        lines.append(
            f"| {name} | {rates} | {show(speed['query_p50_ms'], '.1f')} | {speed['query_p99_ms']['median']:.1f} | "
            f"{quality['cosine']:.4f} | {quality['ndcg']:.4f} | {results['load_seconds'][name]:.1f} | "
            f"{results['memory_mib'][name]:,.0f} |"
        )
    return "\n".join(lines)


def _plans(results: dict[str, Any]) -> str:
    if "plans" not in results:
        return ""
    lines = ["| cut into batches | mixed texts/s |", "|---|---|"]
    for name, rate in results["plans"].items():
        label = f"by tokens, sorted, {int(name):,} {BUDGETED}" if name.isdigit() else name
        lines.append(f"| {label} | {show(rate)} |")
    return "\n".join(lines)


def _servers(results: dict[str, Any]) -> str:
    if "servers" not in results:
        return ""
    lines = ["| as a server | clients | mixed texts/s | p50, ms | p99, ms |", "|---|---|---|---|---|"]
    for name, by_clients in results["servers"].items():
        for clients, seen in by_clients.items():
            lines.append(
                f"| {name} | {clients} | {show(seen['per_second'])} | {show(seen['p50_ms'], '.1f')} | "
                f"{show(seen['p99_ms'], '.0f')} |"
            )
    return "\n".join(lines)


def plot(results: dict[str, Any], figure: "Figure") -> None:
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _bars(left, results)
    lengths = _lengths(results)
    colours = _colours(results)
    for name, speed in results["speed"].items():
        rates = [speed[length]["median"] for length in lengths]
        right.plot([int(length) for length in lengths], rates, marker="o", label=name, color=colours[name])
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_xticks([int(length) for length in lengths], [f"{int(length):,}" for length in lengths])
    right.xaxis.set_minor_formatter("")
    plain_log(right.yaxis)
    right.set_xlabel("characters of a text")
    right.set_ylabel("texts per second")
    right.legend(fontsize=7)


def _colours(results: dict[str, Any]) -> dict[str, str]:
    """The first colour of the page is Sluice's choice."""
    others = iter(f"C{number}" for number in range(1, 6))
    return {name: "C0" if name == "default" else next(others, "0.5") for name in results["speed"]}


def _bars(axes: "Axes", results: dict[str, Any]) -> None:
    """Each contender's rate at the length closest to a chunk's."""
    length = min(_lengths(results), key=lambda characters: abs(int(characters) - 700))
    names = list(results["speed"])
    seen = [results["speed"][name][length] for name in names]
    middle = [rate["median"] for rate in seen]
    spread = [[rate["median"] - rate["min"] for rate in seen], [rate["max"] - rate["median"] for rate in seen]]
    bars = axes.barh(names, middle, xerr=spread, color=[*_colours(results).values()])
    axes.bar_label(bars, [f"{rate:,.0f}" for rate in middle], padding=8)
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"texts of {int(length):,} characters per second")
