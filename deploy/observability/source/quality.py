"""What is found for questions, what is declined, and what readers say."""

from typing import Final

from deploy.observability.source.model import Chart, Dashboard, Row, quantiles, rates, share

__all__ = ["QUALITY"]

ANSWERS: Final = "sluice_gateway_answers_total"
WHERE: Final = 'tenant=~"$tenant", collection=~"$collection"'
BY: Final = "collection, version"


def _of_answers(outcome: str) -> tuple[tuple[str, str], ...]:
    part, whole = rates(ANSWERS, BY, f'{WHERE}, outcome="{outcome}"'), rates(ANSWERS, BY, WHERE)
    return (("{{collection}} {{version}}", share(part, whole)),)


def _mean(metric: str) -> tuple[tuple[str, str], ...]:
    return (
        ("{{collection}} {{version}}", share(rates(f"{metric}_sum", BY, WHERE), rates(f"{metric}_count", BY, WHERE))),
    )


QUALITY: Final = Dashboard(
    uid="sluice-quality",
    title="Sluice: quality of answers",
    about="What is found for questions, what is declined, and what readers say, by collection and version.",
    variables=(("tenant", ANSWERS, "tenant"), ("collection", ANSWERS, "collection")),
    rows=(
        Row(
            title="Answers",
            charts=(
                Chart(
                    title="Questions",
                    unit="reqps",
                    stacked=True,
                    queries=(("{{collection}}", rates(ANSWERS, "collection", WHERE)),),
                ),
                Chart(
                    title="Declined",
                    about="Share of questions of which the sources say nothing.",
                    unit="percentunit",
                    queries=_of_answers("declined"),
                ),
                Chart(title="Failed", unit="percentunit", queries=_of_answers("failed")),
            ),
        ),
        Row(
            title="What is found",
            charts=(
                Chart(
                    title="Similarity",
                    about="Mean cosine of a question and the nearest passage. It falls when questions move away from "
                    "what the collection is about.",
                    unit="none",
                    queries=_mean("sluice_gateway_question_similarity"),
                ),
                Chart(
                    title="Best score",
                    about="Mean score of the best passage.",
                    unit="none",
                    queries=_mean("sluice_gateway_best_score"),
                ),
                Chart(
                    title="Spread of the similarity",
                    unit="none",
                    queries=quantiles("sluice_gateway_question_similarity", WHERE, "collection", (0.1, 0.5, 0.9)),
                ),
            ),
        ),
        Row(
            title="Readers",
            charts=(
                Chart(
                    title="Ratings",
                    unit="none",
                    width=12,
                    queries=(
                        (
                            "{{stage}}/{{variant}} {{rating}}",
                            "sum by (stage, variant, rating) (increase(sluice_gateway_ratings_total[1h]))",
                        ),
                    ),
                ),
                Chart(
                    title="Sentences of answers",
                    about="By what their sources say: supported, unsupported or dropped.",
                    unit="none",
                    width=12,
                    stacked=True,
                    queries=(("{{verdict}}", rates("sluice_generator_sentences_total", "verdict")),),
                ),
            ),
        ),
        Row(
            title="Drift of questions",
            charts=(
                Chart(
                    title="Questions",
                    about="Energy coefficient of the embeddings of recent questions and those before: 0 alike. Where "
                    "SLUICE_QUESTION_DRIFT is on.",
                    unit="none",
                    width=12,
                    queries=(
                        (
                            "{{collection}}",
                            f"max by (collection) (sluice_question_drift_distance{{{WHERE}}})",
                        ),
                    ),
                ),
                Chart(
                    title="Scores",
                    about="Kolmogorov-Smirnov distance of the scores of recent questions from those before.",
                    unit="none",
                    width=12,
                    queries=(
                        (
                            "{{collection}} {{score}}",
                            f"max by (collection, score) (sluice_score_drift_distance{{{WHERE}}})",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            title="Models",
            charts=(
                Chart(
                    title="Stability index",
                    about="How far the latest rows of a model are from the reference: below 0.1 alike, above 0.25 "
                    "different. Where SLUICE_DRIFT is on.",
                    unit="none",
                    width=12,
                    queries=(
                        (
                            "{{model}} {{kind}} {{feature}}",
                            "topk(20, max by (model, kind, feature) (sluice_drift_stability_index))",
                        ),
                    ),
                ),
                Chart(
                    title="Outliers",
                    about="Share of the latest rows that are far from the reference.",
                    unit="percentunit",
                    width=12,
                    queries=(("{{model}} {{kind}}", "max by (model, kind) (sluice_drift_outliers)"),),
                ),
            ),
        ),
    ),
)
