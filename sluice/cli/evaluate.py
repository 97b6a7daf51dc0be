"""`sluice evaluate`: how good retrieval and answers are, by questions with known answers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sluice.cli.options import AsJson, ReportPath, Url, client, user_name
from sluice.cli.plain import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sluice import Client
    from sluice.api.jobs import Job

__all__ = ["artifact_name", "evaluate", "followed", "say_where"]

SHOWN: Final = 5
"""Questions that are printed as examples."""


def evaluate(
    questions: Annotated[Path, typer.Argument(metavar="PATH", help="JSON lines.", dir_okay=False)],
    collection: Annotated[str, typer.Option("--collection", "-c", help="The collection to ask.")] = "default",
    version: Annotated[str | None, typer.Option(help="A version in place of the live one.")] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=100, help="Passages to retrieve.")] = 10,
    mode: Annotated[str, typer.Option(help="hybrid, vector or text; only for evaluations without answers.")] = "hybrid",
    answers: Annotated[bool, typer.Option("--answers", help="Generate and judge whole answers as well.")] = False,
    pipeline: Annotated[str | None, typer.Option(help="The pipeline of answers, in place of the collection's.")] = None,
    baseline: Annotated[str | None, typer.Option(metavar="JOB", help="An earlier evaluation to compare with.")] = None,
    output: ReportPath = None,
    generate: Annotated[
        int | None,
        typer.Option(min=1, max=5_000, metavar="COUNT", help="Have a model write questions to PATH."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model that writes them; else the first that there is.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of passages to write about.")] = 0,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Ask questions whose answers are known, and see how good the results are.

    Each line of the file is a question with the documents that answer it, the answer, or both:

        {"question": "How are chunks cut?", "sources": ["ingestion.md"], "answer": "by tokens"}

    Grades and questions that should be declined are possible too:

        {"question": "…", "sources": {"ingestion.md": 2, "faq.md": 1}}

        {"question": "What does it cost?", "answerable": false}

    With --generate a language model writes the file: it asks about passages of the collection, and each line says that
    it is synthetic. Read such questions before you trust their figures.
    """
    if generate is not None:
        _generate(questions, generate, collection, version, model, seed, url, as_json=as_json)
        return
    if not questions.exists():
        raise typer.BadParameter(f"there is no file {questions}; --generate has a model write one", param_hint="PATH")
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


def _generate(
    file: Path,
    count: int,
    collection: str,
    version: str | None,
    model: str | None,
    seed: int,
    url: str | None,
    *,
    as_json: bool,
) -> None:
    """Write a set of questions to a file that is not there yet."""
    if file.exists():
        raise typer.BadParameter(f"{file} is there already, and is not overwritten", param_hint="PATH")
    with client(url) as sluice:
        spec: dict[str, Any] = {
            "kind": "generate_questions",
            "model": model or _first_model(sluice),
            "collection": collection,
            "count": count,
            "seed": seed,
            **({"version": version} if version else {}),
        }
        job, lines = finished(sluice, sluice.submit_job(spec, by=user_name()), "questions.jsonl", as_json=as_json)
    file.write_bytes(lines)
    if as_json:
        from sluice.cli.output import print_json

        print_json({"job": job.id, "questions": str(file), **job.outputs})
        return
    for line in lines.splitlines()[:SHOWN]:
        say(f"  {json.loads(line)['question']}")
    outputs = job.outputs
    say(
        f"{outputs['questions']} questions about {outputs['documents']} documents are in {file}; "
        f"{outputs['left_out']} replies were left out. Read them, then: sluice evaluate {file} -c {collection}"
    )


def _first_model(sluice: "Client") -> str:
    """The first model that writes."""
    for model in sluice.models():
        if model.sluice.stage == "generate":
            return model.id
    raise typer.BadParameter(
        "no language model is there to write questions: start one, such as by `make up LLM=smollm2`",
        param_hint="--generate",
    )


def artifact_name(file: Path) -> str:
    """What a file of questions is called as an artifact: by its content, so that two of the same time do not overwrite
    each other."""
    import hashlib

    return f"evaluations/{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}.jsonl"


def followed(
    sluice: "Client", job: "Job", result: str, output: Path | None, *, as_json: bool
) -> "tuple[Job, dict[str, Any]]":
    """The job at its end, and its artifact of this name; its report goes to `output`. Exits with 1 where it fails."""
    job, data = finished(sluice, job, result, as_json=as_json)
    if output is not None:
        output.write_bytes(sluice.artifact(f"{job.id}/report.html"))
    found: dict[str, Any] = json.loads(data)
    return job, found


def finished(sluice: "Client", job: "Job", result: str, *, as_json: bool) -> "tuple[Job, bytes]":
    """The job at its end, and the bytes of its artifact of this name. Exits with 1 where it fails."""
    from sluice.cli.follow import follow
    from sluice.cli.job_report import report

    job = follow(sluice, job.id, quiet=as_json)
    if job.state != "succeeded":
        report(job, as_json=as_json)
        raise typer.Exit(1)
    return job, sluice.artifact(f"{job.id}/{result}")


def say_where(job: "Job", output: Path | None) -> None:
    """Where the report is."""
    where = f"Report: {output}" if output else f"Report: sluice jobs artifacts {job.id} report.html"
    say(f"Job {job.id}. {where}")


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
        say(f"{len(comparison['better'])} questions are better, {len(comparison['worse'])} are worse.")
    say_where(job, output)


def _range(bounds: "Mapping[str, float]", form: str = ".3f") -> str:
    return f"{bounds['low']:{form}} to {bounds['high']:{form}}"
