"""The tables and the plot."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from benchmarks.suite import Target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot", "table", "targets"]

OURS: Final = "Sluice"
BASE: Final = "plain dense"
PEERS: Final = ("LlamaIndex", "Haystack")
GAIN: Final = 0.02
DECLINED, FALSELY_DECLINED = 0.9, 0.08
IDENTIFIERS: Final = 0.99


def table(results: dict[str, Any]) -> str:
    lines = []
    for name, corpus in results["corpora"].items():
        count = next(iter(corpus["rankings"].values()))["all"]["questions"]
        lines += [
            f"**{name}**: {corpus['documents']:,} documents, {count:,} questions",
            "",
            "| | nDCG@10 | hit@1 | recall@20 | MRR | against plain dense |",
            "|---|---|---|---|---|---|",
            *_rows(corpus["rankings"]),
            "",
            *_kinds(corpus["rankings"]),
            "",
        ]
    return "\n".join([*lines, *_declined(results)])


def _rows(rankings: dict[str, Any]) -> Iterator[str]:
    for contender, kinds in rankings.items():
        figures = kinds["all"]
        against = "" if contender == BASE else _show(figures["against"], "+.3f")
        measures = " | ".join(_show(figures[measure]) for measure in ("ndcg@10", "hit@1", "recall@20", "mrr"))
        yield f"| {contender} | {measures} | {against} |"


def _kinds(rankings: dict[str, Any]) -> Iterator[str]:
    """nDCG@10 of each kind of question, where there are several."""
    kinds = [kind for kind in next(iter(rankings.values())) if kind != "all"]
    if len(kinds) > 1:
        yield f"| nDCG@10, hit@1 | {' | '.join(kinds)} |"
        yield f"|---|{'---|' * len(kinds)}"
        for contender, found in rankings.items():
            cells = [f"{found[kind]['ndcg@10']['mean']:.3f}, {found[kind]['hit@1']['mean']:.3f}" for kind in kinds]
            yield f"| {contender} | {' | '.join(cells)} |"


def _declined(results: dict[str, Any]) -> Iterator[str]:
    rows = [
        f"| {name} | {contender} | {group} | {_show(figure)} |"
        for name, corpus in results["corpora"].items()
        for contender, figures in corpus["answers"].items()
        for group, figure in figures["declined"].items()
    ]
    if rows:
        yield from ("| corpus | | questions | declined |", "|---|---|---|---|", *rows)


def _show(figure: dict[str, float], form: str = ".3f") -> str:
    return f"{figure['mean']:{form}} [{figure['low']:{form}}, {figure['high']:{form}}]"


def targets(results: dict[str, Any]) -> list[Target]:
    found = []
    for name, corpus in results["corpora"].items():
        rankings = corpus["rankings"]
        if OURS not in rankings:
            continue
        ours = rankings[OURS]["all"]
        gain = ours["against"]
        found.append(Target(f"{name}: nDCG@10 {GAIN} above plain dense", _show(gain, "+.3f"), gain["mean"] >= GAIN))
        for peer in PEERS:
            if peer in rankings:
                margin = ours["ndcg@10"]["mean"] - rankings[peer]["all"]["ndcg@10"]["mean"]
                found.append(Target(f"{name}: nDCG@10 above {peer}", f"{margin:+.3f}", margin > 0))
        if "identifiers" in rankings[OURS]:
            first = rankings[OURS]["identifiers"]["hit@1"]
            found.append(
                Target(f"{name}: identifiers, hit@1 {IDENTIFIERS}", _show(first), first["mean"] >= IDENTIFIERS)
            )
        for group, figure in corpus["answers"].get(OURS, {}).get("declined", {}).items():
            if group == "answerable":
                wanted, met = f"at most {FALSELY_DECLINED:.0%}", figure["mean"] <= FALSELY_DECLINED
            else:
                wanted, met = f"at least {DECLINED:.0%}", figure["mean"] >= DECLINED
            found.append(Target(f"{name}: {group} questions declined, {wanted}", _show(figure), met))
    return found


def plot(results: dict[str, Any], figure: "Figure") -> None:
    corpora = results["corpora"]
    axes = figure.subplots(1, len(corpora), sharey=True, squeeze=False)[0]
    for axis, (name, corpus) in zip(axes, corpora.items(), strict=True):
        contenders = sorted(corpus["rankings"], key=lambda one: not one.startswith(OURS))
        for place, contender in enumerate(contenders):
            found = corpus["rankings"][contender]["all"]["ndcg@10"]
            spread = [[found["mean"] - found["low"]], [found["high"] - found["mean"]]]
            colour = "C0" if contender.startswith(OURS) else "0.55"
            axis.errorbar(found["mean"], place, xerr=spread, fmt="o", color=colour, capsize=3)
        axis.set_yticks(range(len(contenders)), contenders)
        axis.set_title(name)
        axis.set_xlabel("nDCG@10")
        axis.grid(visible=False, axis="y")
    axes[0].invert_yaxis()  # shared by all
