"""What a job of the kind `train` may say of its teacher and its temperature."""

from typing import Any

import pytest
from pydantic import ValidationError

from shared.contracts.jobs import Loss, TrainSpec

TEACHER = "m-0123456789ab"


def spec(**members: Any) -> TrainSpec:
    return TrainSpec.model_validate({"target": "embedder", "dataset": "d1", **members})


@pytest.mark.parametrize(
    ("members", "loss"),
    [
        ({}, None),
        ({"loss": "lambda", "target": "reranker"}, None),
        ({"teacher": TEACHER}, Loss.KL_DIVERGENCE),
        ({"teacher": TEACHER, "loss": "margin-mse"}, Loss.MARGIN_MSE),
        ({"teacher": TEACHER, "target": "reranker"}, Loss.MSE),
        ({"teacher": TEACHER, "target": "reranker", "negatives": 0}, Loss.MSE),
    ],
)
def test_with_a_teacher_the_loss_is_one_that_learns_from_it(members: dict[str, Any], loss: Loss | None) -> None:
    assert spec(**members).distillation is loss


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"loss": "kl-divergence"}, "needs a 'teacher'"),
        ({"loss": "mse", "target": "reranker"}, "needs a 'teacher'"),
        ({"loss": "mse", "teacher": TEACHER}, "not for target 'embedder': choose one of ranking"),
        ({"loss": "ranking", "teacher": TEACHER}, "choose kl-divergence or margin-mse, or leave 'teacher' out"),
        ({"loss": "lambda", "teacher": TEACHER, "target": "reranker"}, "choose mse, or leave 'teacher' out"),
        (
            {"target": "adapter", "base": "/m", "teacher": TEACHER},
            "'teacher' is for the targets embedder and reranker, not for 'adapter'",
        ),
        ({"teacher": TEACHER, "negatives": 0}, "'negatives' is at least 1"),
        ({"temperature": 0.1, "target": "reranker"}, "temperature is for the target 'embedder'"),
        ({"temperature": 0.1, "teacher": TEACHER, "loss": "margin-mse"}, "ranking, cached-ranking, kl-divergence"),
        ({"temperature": 0.0}, "greater than or equal to 0.001"),
    ],
)
def test_what_cannot_be_is_refused(members: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says.replace("'", ".")):
        spec(**members)


@pytest.mark.parametrize("members", [{}, {"loss": "ranking"}, {"teacher": TEACHER}, {"loss": "cached-ranking"}])
def test_a_temperature_is_for_a_softmax(members: dict[str, Any]) -> None:
    assert spec(temperature=0.1, **members).temperature == 0.1
