"""`sluice tune`: look for options of retrieval under which questions find their documents better."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluice.cli.options import AsJson, ReportPath, Url, Wait, client, user_name
from sluice.cli.plain import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice.api.jobs import Job

__all__ = ["tune"]

CHUNKS = re.compile(r"(\d+)/(\d+)")


def tune(
    questions: Annotated[
        Path, typer.Argument(metavar="PATH", help="JSON lines, as for `sluice evaluate`.", exists=True, dir_okay=False)
    ],
    collection: Annotated[str, typer.Option("--collection", "-c", help="The collection to tune.")] = "default",
    trials: Annotated[int, typer.Option(min=2, max=200, help="Trials at most.")] = 40,
    seconds: Annotated[float | None, typer.Option(help="Begin no trial after this time.", min=1)] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, questions and documents give the same trials.")] = 0,
    rerank: Annotated[
        bool, typer.Option("--rerank/--no-rerank", help="Try the reranker too, where one answers.")
    ] = True,
    chunks: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TOKENS/OVERLAP",
            help="A way to cut the documents to try too, such as 128/16; may be repeated. "
            "Much dearer: all documents are indexed anew for each.",
        ),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Name of the better version; by default v2, v3 and so on.")
    ] = None,
    adopt: Annotated[bool, typer.Option("--adopt", help="Make the better version the live one.")] = False,
    output: ReportPath = None,
    wait: Wait = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Look for options of retrieval under which questions find their documents better.

    The questions are split in halves by their documents. Trials use one half. The other half only judges, once, at the
    end: the best trial is *better* where the 95 % interval of its gain in nDCG@10 lies above zero. Then a version of
    the collection with its options is made, and `--adopt`, or `sluice collections switch`, makes it the live one.
    Otherwise the default stays, and the report says so.

    The set needs questions about some 60 documents or more:

        {"question": "How are chunks cut?", "sources": ["ingestion.md"]}

    The search is a job: it survives restarts, and `sluice jobs follow` and `sluice jobs cancel` work on it.
    """
    from sluice.cli.evaluate import artifact_name, followed
    from sluice.cli.job_report import report

    name = artifact_name(questions)
    with client(url) as sluice:
        sluice.put_artifact(name, questions)
        job = sluice.tune(
            collection,
            name,
            trials=trials,
            seconds=seconds,
            seed=seed,
            rerank=rerank,
            chunks=[_chunks(text) for text in chunks or []],
            version=version,
            adopt=adopt,
            by=user_name(),
        )
        if not wait:
            report(job, as_json=as_json)
            return
        job, found = followed(sluice, job, "verdict.json", output, as_json=as_json)
    _show(job, found, output, as_json=as_json)


def _chunks(text: str) -> tuple[int, int]:
    if (found := CHUNKS.fullmatch(text)) is None:
        raise typer.BadParameter(f"{text!r} is not TOKENS/OVERLAP, such as 128/16", param_hint="--chunks")
    return int(found[1]), int(found[2])


def _show(job: "Job", found: "Mapping[str, Any]", output: Path | None, *, as_json: bool) -> None:
    from sluice.cli.evaluate import say_where
    from sluice.cli.output import print_json, print_table

    version, live = job.outputs.get("version"), job.outputs.get("live")
    if as_json:
        print_json({"job": job.id, **found, "version": version, "live": live})
        return
    default, best, difference = found["default"], found["best"], found["difference"]
    gain = f"{difference['mean']:+.3f} ({difference['low']:+.3f} to {difference['high']:+.3f})"
    counts = found["questions"]
    print_table(
        ("nDCG@10", ">questions", ">default", ">best trial", "difference, 95 % interval"),
        [
            ("held out", f"{counts['held_out']:,}", f"{default['held_out']:.3f}", f"{best['held_out']:.3f}", gain),
            ("to tune on", f"{counts['tuned']:,}", f"{default['tuned']:.3f}", f"{best['tuned']:.3f}", ""),
        ],
        empty="",
    )
    say(found["text"])
    say(f"Best of {found['trials']} trials: {_options(best['setting'])}.")
    if version and live:
        say(f"Version {version} is live. Back: sluice collections switch {found['collection']}")
    elif version:
        say(f"Version {version} has these options: sluice collections switch {found['collection']} {version}")
    say_where(job, output)


def _options(setting: "Mapping[str, Any]") -> str:
    named = dict(setting.get("retrieval", {}))
    if setting.get("rerank_candidates"):
        named["rerank_candidates"] = setting["rerank_candidates"]
    named |= {f"chunk_{name}": value for name, value in setting.get("chunks", {}).items()}
    return ", ".join(f"{name} {value}" for name, value in named.items()) or "the defaults"
