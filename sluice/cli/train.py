"""`sluice train`: train a model on a data set."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from sluice.cli.options import AsJson, Base, DatasetName, Target, Url, Wait, client, user_name
from sluice.cli.plain import say

if TYPE_CHECKING:
    from sluice.api.jobs import Job

__all__ = ["MEASURES", "members", "train"]

MEASURES: Final = {"ndcg": "nDCG@10", "perplexity": "perplexity", "accuracy": "preference accuracy"}
"""What the test rows are measured by, and what it is called."""


def train(
    dataset: DatasetName,
    target: Target = "embedder",
    base: Base = "",
    adapter: Annotated[str, typer.Option(help="For an adapter: the one of the store to go on from.")] = "",
    teacher: Annotated[
        str, typer.Option(help="A reranker of the store whose scores the model learns, such as m-0123456789ab.")
    ] = "",
    epochs: Annotated[float, typer.Option(min=0.001, help="Times that all rows are seen.")] = 1.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps, in place of epochs.")] = None,
    batch: Annotated[int, typer.Option(min=2, help="Rows of a step.")] = 32,
    learning_rate: Annotated[float | None, typer.Option("--lr", help="The learning rate at its highest.")] = None,
    loss: Annotated[
        str,
        typer.Option(
            help="auto; ranking, cached-ranking; cross-entropy, lambda; sft, dpo; with --teacher kl-divergence, "
            "margin-mse; mse."
        ),
    ] = "auto",
    negatives: Annotated[int, typer.Option(min=0, max=32, help="Negatives of each row that are used.")] = 4,
    patience: Annotated[
        int, typer.Option(min=0, help="Looks without anything better that end it; 0: it goes on to its end.")
    ] = 5,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and data set give the same model.")] = 0,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Processes that share each step.")] = 1,
    seconds: Annotated[float | None, typer.Option(min=1, help="End it in good order after this time.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other member of the job; may be repeated."),
    ] = None,
    description: Annotated[str, typer.Option(help="A word on the model, kept with it.")] = "",
    wait: Wait = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Train a model on a data set, and keep it in the store of models.

    A part of the training rows judges on the way, and the model of the best look is kept. The test rows only measure,
    before and after: a quick check. `sluice evaluate` says how a collection answers with the model.

    Training is a job: it goes on from its last checkpoint whatever is restarted, and `sluice jobs follow` and
    `sluice jobs cancel` work on it.
    """
    from sluice.cli.follow import follow
    from sluice.cli.job_report import report

    with client(url) as sluice:
        given = {
            "base": base,
            "epochs": epochs,
            "steps": steps,
            "batch": batch,
            "learning_rate": learning_rate,
            "loss": loss,
            "negatives": negatives,
            "patience": patience or None,
            "seed": seed,
            "processes": processes,
            "seconds": seconds,
            "description": description,
            **({"adapter": adapter} if adapter else {}),
            **({"teacher": teacher} if teacher else {}),
        }
        job = sluice.train(dataset, target, by=user_name(), **(given | members(option or [])))
        if wait:
            job = follow(sluice, job.id, quiet=as_json)
    if not wait or job.state != "succeeded" or as_json:
        report(job, as_json=as_json)
        return
    _show(job)


def members(options: list[str]) -> dict[str, Any]:
    """Members of a job's spec, as `--set` gives them."""
    import yaml

    from sluice.cli.options import pairs

    return {name: yaml.safe_load(text) for name, text in pairs(options, "--set").items()}


def _show(job: "Job") -> None:
    from sluice.cli.output import print_table

    outputs = job.outputs
    name = next((name for name in MEASURES if f"{name}_after" in outputs), "ndcg")
    before, after = outputs.get(f"{name}_before"), outputs.get(f"{name}_after")
    loss = outputs.get("loss")
    print_table(
        ("model", ">steps", ">time", ">loss", f">{MEASURES[name]} before", ">after"),
        [
            (
                str(outputs["model"]),
                f"{outputs['steps']:,}",
                f"{float(str(outputs['seconds'])):,.0f} s",
                "" if loss is None else f"{loss:.4f}",
                "" if before is None else f"{before:.3f}",
                "" if after is None else f"{after:.3f}",
            )
        ],
        empty="",
    )
    if outputs.get("stopped_early"):
        say("It stopped early: nothing better was found any more, or its time was over.")
    say(f"Job {job.id}. Log: sluice jobs artifacts {job.id} log.txt")
