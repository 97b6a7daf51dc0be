"""The results of a batch: one for each request, in the form of OpenAI's files."""

import json
from tempfile import TemporaryFile

from services.scheduler.batches.results import Result, Results, failed_result, problem_of, replied_result
from services.scheduler.clients.requests import Reply
from shared.contracts.problems import ProblemType


def replied(custom_id: str, status: int = 200, body: bytes = b'{"answer":"x"}') -> Result:
    return replied_result("j1", custom_id, Reply(status=status, request_id="t1", body=body))


def test_a_reply_is_told_as_openai_tells_it() -> None:
    result = replied("a", body=b'{"answer":\n"x"}')
    assert b"\n" not in result.line
    told = json.loads(result.line)
    assert told.pop("id").startswith("batch_req_")
    response = {"status_code": 200, "request_id": "t1", "body": {"answer": "x"}}
    assert told == {"custom_id": "a", "response": response, "error": None}
    assert Result.read(result.line) == result


def test_what_nobody_answered_has_an_error_instead_of_a_response() -> None:
    result = failed_result("j1", "a", "stage-failed", "It died.")
    told = json.loads(result.line)
    assert (told["response"], told["error"]) == (None, {"code": "stage-failed", "message": "It died."})
    assert Result.read(result.line) == result
    assert (problem_of(result).kind, problem_of(result).detail) == (ProblemType.STAGE_FAILED, "It died.")


def test_the_problem_is_found_in_either_form_of_an_error() -> None:
    problem = {"type": ProblemType.INVALID_QUESTION.uri, "title": "No", "status": 422, "detail": "It is empty."}
    for body in (problem, {"error": {"message": "It is empty.", "sluice": problem}}):
        found = problem_of(replied("a", 422, json.dumps(body).encode()))
        assert (found.kind, found.detail) == (ProblemType.INVALID_QUESTION, "It is empty.")


def test_a_request_has_one_result_which_is_the_first() -> None:
    results = Results()
    assert results.add(replied("a"))
    assert not results.add(replied("a", 500, b"{}"))
    assert (len(results), results.completed, results.failed) == (1, 1, 0)
    results.close()


def test_parts_hold_each_result_once_and_what_was_not_kept_comes_again() -> None:
    results = Results()
    results.add(replied("a"))
    first = results.unsaved()
    results.add(replied("b"))
    assert results.unsaved().startswith(first)
    results.saved(first)
    second = results.unsaved()
    assert [Result.read(line).custom_id for line in second.splitlines()] == ["b"]
    results.saved(second)
    assert results.unsaved() == b""
    assert not results.due(0)
    for number in range(100):
        results.add(replied(f"c{number}"))
    assert results.due(0)
    results.close()


def test_output_and_errors_are_in_the_order_of_the_input() -> None:
    results = Results()
    for custom_id, status in (("c", 200), ("a", 404), ("b", 200), ("d", 500)):
        results.add(replied(custom_id, status))
    with TemporaryFile() as output, TemporaryFile() as errors:
        results.write(["a", "b", "c", "d", "never"], output, errors)
        for file, wanted in ((output, ["b", "c"]), (errors, ["a", "d"])):
            file.seek(0)
            assert [json.loads(line)["custom_id"] for line in file] == wanted
    results.close()
