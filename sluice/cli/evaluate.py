"""`sluice evaluate`: how good retrieval and answers are, by questions with known answers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluice.cli.options import AsJson, Url, client, user_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice import Client
    from sluice.api.models import Job

__all__ = ["artifact_name", "evaluate", "followed", "say_where"]


def evaluate(
    questions: Annotated[Path, typer.Argument(metavar="PATH", help="JSON lines.", exists=True, dir_okay=False)],
    collection: Annotated[str, typer.Option("--collection", "-c", help="The collection to ask.")] = "default",
    version: Annotated[str | None, typer.Option(help="A version in place of the live one.")] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=100, help="Passages to retrieve.")] = 10,
    mode: Annotated[str, typer.Option(help="hybrid, vector or text; only for evaluations without answers.")] = "hybrid",
    answers: Annotated[bool, typer.Option("--answers", help="Generate and judge whole answers as well.")] = False,
    pipeline: Annotated[str | None, typer.Option(help="The pipeline of answers, in place of the collection's.")] = None,
    baseline: Annotated[str | None, typer.Option(metavar="JOB", help="An earlier evaluation to compare with.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PATH", help="Where to write the report, as HTML.")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Ask questions whose answers are known, and see how good the results are.

    Each line of the file is a question with the documents that answer it, the answer, or both:

        {"question": "How are chunks cut?", "sources": ["ingestion.md"], "answer": "by tokens"}

    Grades and questions that should be declined are possible too:

        {"question": "…", "sources": {"ingestion.md": 2, "faq.md": 1}}

        {"question": "What does it cost?", "answerable": false}
    """
    name = artifact_name(questions)
    spec: dict[str, Any] = {
        "kind": "evaluate",
        "input": name,
        "collection": collection,
        "top_k": top_k,
        "mode": mode,
        "answers": answers,
        **({"version": version} if version else {}),
        **({"pipeline": pipeline} if pipeline else {}),
        **({"baseline": f"{baseline}/report.json"} if baseline else {}),
    }
    with client(url) as sluice:
        sluice.put_artifact(name, questions)
        job = sluice.submit_job(spec, by=user_name())
        job, found = followed(sluice, job, "report.json", output, as_json=as_json)
    _show(job, found, output, as_json=as_json)


def artifact_name(file: Path) -> str:
    """What a file of questions is called as an artifact: by its content, so that two of the same time do not overwrite
    each other."""
    import hashlib

    return f"evaluations/{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}.jsonl"


def followed(
    sluice: "Client", job: "Job", result: str, output: Path | None, *, as_json: bool
) -> "tuple[Job, dict[str, Any]]":
    """The job at its end, and its artifact of this name; its report goes to `output`. Exits with 1 where it fails."""
    from sluice.cli.follow import follow
    from sluice.cli.job_report import report

    job = follow(sluice, job.id, quiet=as_json)
    if job.state != "succeeded":
        report(job, as_json=as_json)
        raise typer.Exit(1)
    if output is not None:
        output.write_bytes(sluice.artifact(f"{job.id}/report.html"))
    found: dict[str, Any] = json.loads(sluice.artifact(f"{job.id}/{result}"))
    return job, found


def say_where(job: "Job", output: Path | None) -> None:
    """Where the report is."""
    where = f"Report: {output}" if output else f"Report: sluice jobs artifacts {job.id} report.html"
    typer.echo(f"Job {job.id}. {where}")


def _show(job: "Job", found: "Mapping[str, Any]", output: Path | None, *, as_json: bool) -> None:
    from sluice.cli.output import print_json, print_table

    shown = {name: found[name] for name in ("metrics", "intervals", "comparison") if name in found}
    if as_json:
        print_json({"job": job.id, **shown})
        return
    differences = shown.get("comparison", {}).get("differences", {})
    rows = []
    for name, value in shown["metrics"].items():
        bounds = shown["intervals"].get(name)
        change = differences.get(name)
        rows.append(
            (
                name,
                f"{value:g}" if bounds is None else f"{value:.3f}",
                "" if bounds is None else _range(bounds),
                "" if change is None else f"{change['mean']:+.3f} ({_range(change, '+.3f')})",
            )
        )
    print_table(("metric", ">value", "95 % interval", "against the baseline"), rows, empty="")
    if comparison := shown.get("comparison"):
        typer.echo(f"{len(comparison['better'])} questions are better, {len(comparison['worse'])} are worse.")
    say_where(job, output)


def _range(bounds: "Mapping[str, float]", form: str = ".3f") -> str:
    return f"{bounds['low']:{form}} to {bounds['high']:{form}}"
