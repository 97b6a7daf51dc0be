"""What a query past its deadline is told."""

from services.gateway.queries.progress import QueryProgress, QueueState, overdue
from shared.contracts.envelope import Stop
from shared.contracts.events import Progress
from shared.contracts.graphs.nodes import Branch, Ensemble
from shared.contracts.problems import ProblemType

SLIP = (Stop(stage="embed"), Stop(stage="retrieve"), Stop(stage="generate"))
BUSY = QueueState(waiting=3, in_work=16, wanted=False)
DESERTED = QueueState(waiting=1, in_work=0, wanted=False)
IDLE = QueueState(waiting=0, in_work=0, wanted=True)


def progress(*stages: str, attempt: int = 1) -> QueryProgress:
    progress = QueryProgress(SLIP)
    for stage in stages:
        progress.note(Progress(stage=stage, attempt=attempt))
    return progress


def test_a_first_stage_that_nobody_serves_is_named_as_unavailable() -> None:
    for queue in (None, DESERTED):
        problem = overdue(progress(), 2.0, queue)
        assert problem.kind is ProblemType.STAGE_UNAVAILABLE
        assert problem.extras == {"stage": "embed"}
        assert "No worker of stage 'embed' is running" in problem.detail


def test_a_first_stage_whose_workers_are_busy_is_said_to_be_busy() -> None:
    problem = overdue(progress(), 2.0, BUSY)
    assert problem.kind is ProblemType.STAGE_UNAVAILABLE
    assert "16 queries in work, 3 waiting" in problem.detail


def test_a_later_stage_that_nobody_serves_is_named_as_unavailable() -> None:
    problem = overdue(progress("embed"), 2.0, DESERTED)
    assert (problem.kind, problem.extras) == (ProblemType.STAGE_UNAVAILABLE, {"stage": "retrieve"})


def test_a_stage_in_work_is_named_when_the_deadline_passes() -> None:
    problem = overdue(progress("embed", "retrieve", "generate"), 2.0, None)
    assert (problem.kind, problem.extras) == (ProblemType.DEADLINE_EXCEEDED, {"stage": "generate"})


def test_between_two_stages_both_are_named() -> None:
    problem = overdue(progress("embed"), 2.0, IDLE)
    assert problem.kind is ProblemType.DEADLINE_EXCEEDED
    assert "'embed' had begun" in problem.detail
    assert "'retrieve' had not" in problem.detail


def test_of_a_slip_that_decides_the_stages_are_named_that_nobody_has_begun() -> None:
    branches = tuple(Branch(name=name, then=(Stop(stage=name),)) for name in ("predict", "embed"))
    graph = QueryProgress((Ensemble(branches=branches).stop(), Stop(stage="generate")))
    problem = overdue(graph, 2.0, None)
    assert (problem.kind, problem.extras) == (ProblemType.STAGE_UNAVAILABLE, {"stage": "predict"})
    assert "No worker has begun on it, of the stages 'predict', 'embed', 'generate'" in problem.detail
    graph.note(Progress(stage="embed"))
    problem = overdue(graph, 2.0, None)
    assert (problem.kind, problem.extras) == (ProblemType.DEADLINE_EXCEEDED, {"stage": "embed"})
    assert "'embed' had begun on it, and none of the stages 'predict', 'generate' yet" in problem.detail


def test_a_new_attempt_starts_at_the_first_stage_again() -> None:
    again = progress("embed", "retrieve")
    again.note(Progress(stage="embed", attempt=2))
    again.note(Progress(stage="generate", attempt=1))
    assert again.started is not None
    assert again.started.stage == "embed"


def test_a_redelivery_is_no_step_forward() -> None:
    again = progress("embed", "embed")
    assert again.ahead is not None
    assert again.ahead.stage == "retrieve"


def test_a_stage_that_the_slip_names_twice_is_passed_twice() -> None:
    twice = QueryProgress((Stop(stage="retrieve"), Stop(stage="rerank"), Stop(stage="retrieve")))
    for stage in ("retrieve", "rerank", "retrieve"):
        twice.note(Progress(stage=stage))
    assert twice.ahead is None
