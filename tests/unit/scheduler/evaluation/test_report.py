"""Reports of evaluations: graded sources, intervals, comparisons, and the page."""

import json
import random

import pytest

from services.scheduler.evaluation.comparison import compare, read_report
from services.scheduler.evaluation.intervals import clustered, interval
from services.scheduler.evaluation.metrics import cosine, ndcg_at
from services.scheduler.evaluation.page import as_page
from services.scheduler.evaluation.questions import Answered, Judged, judge, read_questions
from services.scheduler.evaluation.report import as_json, as_picture, intervals_of, metrics_of
from shared.contracts.jobs import EvaluateSpec
from shared.contracts.problems import Problem


def questions(*lines: object, answers: bool = False) -> list[Judged]:
    read = read_questions("\n".join(map(json.dumps, lines)).encode(), answers=answers)
    return [judge(question, ["a", "b"]) for question in read]


def test_a_document_of_a_higher_grade_is_worth_more() -> None:
    assert ndcg_at(10, ["a", "b"], {"a": 2, "b": 1}) == 1.0
    assert ndcg_at(10, ["b", "a"], {"a": 2, "b": 1}) == pytest.approx((1 + 3 / 1.5849625) / (3 + 1 / 1.5849625))


def test_sources_are_names_or_names_with_grades() -> None:
    plain, graded = questions({"question": "x", "sources": ["b"]}, {"question": "y", "sources": {"a": 1, "b": 3}})
    assert (plain.expected, plain.grades) == (("b",), None)
    assert (graded.expected, graded.grades) == (("a", "b"), {"a": 1, "b": 3})
    found = metrics_of([graded], 10)["ndcg_at_10"]
    assert found == pytest.approx(ndcg_at(10, ["a", "b"], {"a": 1, "b": 3}), abs=1e-6)


@pytest.mark.parametrize("line", [{"question": "x", "sources": {"a": 0}}, {"question": "x", "answerable": False}])
def test_a_grade_of_zero_and_an_unanswerable_question_without_answers_are_refused(line: object) -> None:
    with pytest.raises(Problem, match="Line 1"):
        questions(line)


def test_an_unanswerable_question_expects_nothing() -> None:
    with pytest.raises(Problem, match="unanswerable"):
        questions({"question": "x", "answerable": False, "sources": ["a"]}, answers=True)


def test_answers_to_unanswerable_questions_and_refusals_of_others_are_counted_apart() -> None:
    lines = [{"question": "x", "sources": ["a"]}] * 2 + [{"question": "y", "answerable": False}] * 4
    read = read_questions("\n".join(map(json.dumps, lines)).encode(), answers=True)
    answered = (True, False, True, False, False, False)
    judged = [
        judge(question, ["a"], answer=Answered(answer="", answered=said, supported=0.5))
        for question, said in zip(read, answered, strict=True)
    ]
    metrics = metrics_of(judged, 10)
    assert (metrics["false_declined"], metrics["false_answered"], metrics["supported_sentences"]) == (0.5, 0.25, 0.5)


def test_the_interval_of_a_mean_holds_it_and_narrows_with_more_questions() -> None:
    few, many, most = (interval([0.0, 1.0] * count) for count in (10, 100, 1000))
    assert few.mean == many.mean == most.mean == 0.5
    assert 0 <= few.low < many.low < most.low < 0.5 < most.high < many.high < few.high <= 1
    assert few == interval([0.0, 1.0] * 10)


def test_values_that_are_right_or_wrong_together_are_less_sure() -> None:
    values = [0.0, 1.0] * 40
    alone = clustered(values, [f"{number}" for number in range(80)])
    together = clustered(values, [f"{number // 20}-{number % 2}" for number in range(80)])
    assert alone.mean == together.mean == 0.5
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_the_interval_of_many_groups_is_that_of_few_but_for_the_resampling() -> None:
    draw = random.Random(1)
    values = [draw.random() for _ in range(2400)]
    groups = [f"{number // 3}" for number in range(2400)]
    few, many = clustered(values[:2400], groups), clustered(values * 2, [*groups, *(f"x{group}" for group in groups)])
    assert few.mean == pytest.approx(many.mean)
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(2**0.5, rel=0.1)


def test_the_cosine_of_orthogonal_and_of_zero_vectors_is_zero() -> None:
    assert cosine((1, 2), (2, 4)) == pytest.approx(1)
    assert cosine((1, 0), (0, 1)) == cosine((0, 0), (1, 1)) == 0


SPEC = EvaluateSpec(input="set/q.jsonl", collection="docs")


def reported(*ranks: int | None) -> list[Judged]:
    return [
        Judged(question=f"<{n}>", expected=("a",), found=("x",) * (rank - 1) + ("a",) if rank else (), rank=rank)
        for n, rank in enumerate(ranks)
    ]


def test_a_comparison_names_what_got_better_and_worse_and_by_how_much() -> None:
    before = reported(1, 2, None, 1)
    written = as_json(SPEC, "v1", metrics_of(before, 10), before, intervals_of(before, 10), None)
    found = compare("old/report.json", read_report(written), reported(1, 1, 1, None), 10)
    assert [(one.question, one.rank_before, one.rank) for one in found.better] == [("<2>", None, 1), ("<1>", 2, 1)]
    assert [(one.question, one.change) for one in found.worse] == [("<3>", -1.0)]
    assert found.differences["mrr"].mean == pytest.approx(0.125)


def test_only_a_report_with_questions_in_common_is_a_baseline() -> None:
    with pytest.raises(Problem, match=r"report\.json"):
        read_report(b'{"metrics": {}}')
    with pytest.raises(Problem, match="none of the questions"):
        compare("old", [], reported(1), 10)


def test_the_page_shows_metrics_changes_and_questions_and_escapes_what_is_not_its_own() -> None:
    judged = reported(1, None)
    comparison = compare("old/<b>", reported(2, 1), judged, 10)
    picture = as_picture(SPEC, "v1", metrics_of(judged, 10), judged)
    page = as_page(SPEC, "v1", judged, intervals_of(judged, 10), comparison, picture).decode()
    assert "nDCG@10" in page
    assert "Better: 1 questions" in page
    assert "&lt;1&gt;" in page
    assert "<b>" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
