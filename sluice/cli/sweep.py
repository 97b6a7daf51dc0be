"""`sluice sweep`: look for the hyper-parameters of a training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sluice.cli.options import AsJson, Base, DatasetName, ReportPath, Target, Url, Wait, client, user_name
from sluice.cli.plain import say

if TYPE_CHECKING:
    from sluice.api.jobs import Job

__all__ = ["sweep"]

BETWEEN: Final = ".."


def sweep(
    dataset: DatasetName,
    target: Target = "embedder",
    base: Base = "",
    teacher: Annotated[str, typer.Option(help="A reranker of the store whose scores are learned.")] = "",
    learning_rate: Annotated[
        str, typer.Option("--lr", metavar="LOW..HIGH", help="Learning rates, such as 1e-5..1e-4.")
    ] = "",
    temperature: Annotated[str, typer.Option(metavar="LOW..HIGH", help="Temperatures, such as 0.02..0.1.")] = "",
    steps: Annotated[str, typer.Option(metavar="A,B,...", help="Numbers of steps to choose from.")] = "",
    batch: Annotated[str, typer.Option(metavar="A,B,...", help="Rows of a step to choose from.")] = "",
    negatives: Annotated[str, typer.Option(metavar="A,B,...", help="Numbers of negatives to choose from.")] = "",
    rank: Annotated[str, typer.Option(metavar="A,B,...", help="Ranks of an adapter to choose from.")] = "",
    beta: Annotated[str, typer.Option(metavar="LOW..HIGH", help="Betas of `dpo`, such as 0.05..0.5.")] = "",
    loss: Annotated[str, typer.Option(metavar="A,B,...", help="Losses to choose from, as for `sluice train`.")] = "",
    matryoshka: Annotated[
        list[str] | None,
        typer.Option(metavar="A/B/...", help="First dimensions that are trained too, or none; may be repeated."),
    ] = None,
    trials: Annotated[int, typer.Option(min=2, max=100, help="Trainings at most.")] = 12,
    parallel: Annotated[int, typer.Option(min=1, max=16, help="Trainings at once.")] = 1,
    seconds: Annotated[float | None, typer.Option(min=1, help="Begin no training after this time.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and results give the same trials.")] = 0,
    prune: Annotated[
        bool, typer.Option("--prune/--no-prune", help="End trainings early that do worse than most did by then.")
    ] = False,
    prune_after: Annotated[
        int | None, typer.Option(min=1, max=99, help="Trainings that succeed before one is pruned, by default 5.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A member that all trainings have; may be repeated."),
    ] = None,
    output: ReportPath = None,
    wait: Wait = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Look for the hyper-parameters of a training, and keep the model that does best.

    The first trial is the training as it is without a search. Each further one has hyper-parameters that the results so
    far make likely. The validation rows, which share no document with what is trained on, decide; the test rows only
    say at the end what came of it.

    A sweep is a job, and so is each trial: they survive restarts, and `sluice jobs cancel` ends them all.
    """
    from sluice.cli.follow import follow
    from sluice.cli.job_report import report
    from sluice.cli.train import members

    space: dict[str, Any] = {
        "learning_rate": _bounds(learning_rate, "--lr"),
        "temperature": _bounds(temperature, "--temperature"),
        "beta": _bounds(beta, "--beta"),
        "steps": _numbers(steps, "--steps"),
        "batch": _numbers(batch, "--batch"),
        "negatives": _numbers(negatives, "--negatives"),
        "rank": _numbers(rank, "--rank"),
        "loss": [name.strip() for name in loss.split(",") if name.strip()],
        "matryoshka": [_dimensions(text) for text in matryoshka or []],
    }
    searched = {name: values for name, values in space.items() if values}
    if not searched:
        raise typer.BadParameter("name at least one hyper-parameter to search, such as --lr 1e-5..1e-4")
    with client(url) as sluice:
        job = sluice.sweep(
            dataset,
            target,
            space=searched,
            trials=trials,
            parallel=parallel,
            seconds=seconds,
            seed=seed,
            prune=prune,
            prune_after=prune_after,
            by=user_name(),
            **{name: model for name, model in (("base", base), ("teacher", teacher)) if model} | members(option or []),
        )
        if wait:
            job = follow(sluice, job.id, quiet=as_json)
        if output is not None and job.state == "succeeded":
            output.write_bytes(sluice.artifact(f"{job.id}/report.html"))
    if not wait or job.state != "succeeded" or as_json:
        report(job, as_json=as_json)
        return
    _show(job, output)


def _bounds(text: str, option: str) -> dict[str, float]:
    if not text:
        return {}
    low, _, high = text.partition(BETWEEN)
    try:
        return {"low": float(low), "high": float(high)}
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not LOW..HIGH, such as 1e-5..1e-4", param_hint=option) from None


def _numbers(text: str, option: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",") if number.strip()]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of numbers, such as 16,32", param_hint=option) from None


def _dimensions(text: str) -> list[int]:
    if text == "none":
        return []
    try:
        return [int(size) for size in text.split("/")]
    except ValueError:
        detail = f"{text!r} is neither a list of dimensions, such as 256/128, nor none"
        raise typer.BadParameter(detail, param_hint="--matryoshka") from None


def _show(job: "Job", output: Path | None) -> None:
    from sluice.cli.evaluate import say_where
    from sluice.cli.output import print_table
    from sluice.cli.train import MEASURES

    outputs = job.outputs
    measure = next((name for name in MEASURES if f"{name}_validation" in outputs), "ndcg")

    def figure(name: str) -> str:
        value: Any = outputs.get(name)
        return "" if value is None else f"{value:.3f}"

    rows = [
        (rows, figure(f"{measure}_{name}_default"), figure(f"{measure}_{name}"))
        for rows, name in (("validation rows", "validation"), ("test rows", "after"))
        if outputs.get(f"{measure}_{name}") is not None
    ]
    print_table((MEASURES[measure], ">default", ">best"), rows, empty="")
    say(str(outputs["message"]))
    pruned = f" and {outputs['pruned']} were pruned" if outputs.get("pruned") else ""
    say(
        f"Model {outputs['model']}, of the job {outputs['job']}. {outputs['trials']} trials, of which "
        f"{outputs['failed']} failed{pruned}: sluice jobs artifacts {job.id} trials.jsonl"
    )
    say_where(job, output)
