"""`sluice dataset`: make data to train and test models on."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluice.cli.options import AsJson, Url, Wait, client, user_name
from sluice.cli.plain import say

if TYPE_CHECKING:
    from sluice import Client
    from sluice.api.datasets import DatasetManifest
    from sluice.api.jobs import Job

__all__ = ["dataset"]

ARTIFACT = re.compile(r"[A-Za-z0-9_-]{1,64}/[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
ORIGINS = ("questions", "feedback", "synthetic")


def dataset(
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection that the data are about.")],
    questions: Annotated[
        list[str] | None,
        typer.Option(
            "--questions",
            "-q",
            metavar="FILE",
            help="JSON lines, as for `sluice evaluate`, or the name of such an artifact; may be repeated.",
        ),
    ] = None,
    feedback: Annotated[
        bool, typer.Option("--feedback/--no-feedback", help="Use what readers said of answers too.")
    ] = True,
    since: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="Only feedback since this day (UTC).")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Only feedback of the last days.")] = None,
    version: Annotated[str | None, typer.Option(help="Take passages of this version, not of the live one.")] = None,
    negatives: Annotated[int, typer.Option(min=0, max=16, help="Hard negatives for each row, at most.")] = 4,
    margin: Annotated[
        float,
        typer.Option(
            min=0, max=0.99, help="A negative's similarity is below that of the right passage by at least this part."
        ),
    ] = 0.05,
    test_share: Annotated[
        float, typer.Option(min=0.05, max=0.9, help="Share of the documents that are for the test data.")
    ] = 0.3,
    seed: Annotated[int, typer.Option(min=0, help="The same seed puts a document on the same side.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=50_000, help="Questions at most.")] = 10_000,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write the files.", file_okay=False)
    ] = None,
    wait: Wait = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make data to train and test models on: of feedback, sets of questions and the collection itself.

    Each question gets the passage that answers it and hard negatives: passages of other documents that the search ranks
    high. Questions that share a document are all training data or all test data. The job's id names the data set, and
    the hash of its rows is the same for the same inputs.

        sluice dataset docs --questions questions.jsonl -o data

        sluice dataset docs --days 30

    It takes questions about 30 documents or more. What readers said is for those who see everything of the tenant;
    others make data sets with --no-feedback.
    """
    from sluice.cli.evaluate import finished
    from sluice.cli.job_report import report

    if not (feedback or questions):
        raise typer.BadParameter("without feedback it takes a file of questions", param_hint="--questions")
    with client(url) as sluice:
        names = [_uploaded(sluice, given) for given in questions or []]
        job = sluice.make_dataset(
            collection,
            names,
            feedback=feedback,
            since=since,
            days=days,
            version=version,
            negatives=negatives,
            relative_margin=margin,
            test_share=test_share,
            seed=seed,
            limit=limit,
            by=user_name(),
        )
        if not wait:
            report(job, as_json=as_json)
            return
        job, _ = finished(sluice, job, "dataset.json", as_json=as_json)
        found = sluice.dataset(job.id)
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            for artifact in sluice.job_artifacts(job.id):
                sluice.save_artifact(artifact.name, output / artifact.name.rpartition("/")[2])
    _show(job, found, output, as_json=as_json)


def _uploaded(sluice: "Client", given: str) -> str:
    """The name of the artifact that holds the questions."""
    from sluice.cli.evaluate import artifact_name

    file = Path(given)
    if file.is_file():
        name = artifact_name(file)
        sluice.put_artifact(name, file)
        return name
    if not ARTIFACT.fullmatch(given):
        raise typer.BadParameter(f"there is no file {given}", param_hint="--questions")
    return given


def _show(job: "Job", found: "DatasetManifest", output: Path | None, *, as_json: bool) -> None:
    from sluice.cli.output import print_json, print_table

    if as_json:
        print_json(found)
        return
    print_table(
        ("data", ">rows", ">questions", ">documents", *(f">{origin}" for origin in ORIGINS), ">negatives"),
        [
            (
                name,
                *(f"{count:,}" for count in (side.rows, side.questions, side.documents)),
                *(f"{side.origins.get(origin, 0):,}" for origin in ORIGINS),
                f"{side.negatives:,}",
            )
            for name, side in (("train", found.train), ("test", found.test))
        ],
        empty="",
    )
    answers = found.train.answers + found.test.answers
    say(f"{answers:,} answers for a language model, and {found.preferences:,} preferences, from corrections.")
    for reason, count in found.left_out.items():
        say(f"Left out: {count:,}: {reason}.")
    say(f"Hash {found.hash}.")
    where = f"Files: {output}" if output else f"Files: sluice jobs artifacts {job.id}"
    say(f"Data set {job.id}. {where}")
