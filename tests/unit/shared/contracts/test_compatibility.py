"""What services of one version write, those of the version before and of the next one read: docs/compatibility.md."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from shared.contracts.collections import Collection
from shared.contracts.documents import Document
from shared.contracts.envelope import Query
from shared.contracts.events import Result, decode_event, encode_event
from shared.contracts.generation import GenerateParams
from shared.contracts.indexing import IndexChange
from shared.contracts.jobs import Job, decode_spec
from shared.contracts.pipelines.steps import step_spec
from shared.contracts.problems import Problem, ProblemDetails, ProblemType
from shared.contracts.routes import Route
from shared.service.service import ServiceStatus
from shared.stores.files import FileRecord
from tests.harness.wire import CONTRACT, contract

WRITTEN = CONTRACT.parent
NEWER = "a_member_of_the_next_version"
FREE = {
    "metadata",
    "params",
    "notes",
    "labels",
    "outputs",
    "weights",
    "shadows",
    "env",
    "parameters",
    "in_flight",
    "node_selector",
}
"""Members whose keys are a user's own, so that no version adds any."""

RECORDS: dict[str, type[BaseModel]] = {
    "collection": Collection,
    "document": Document,
    "route": Route,
    "file": FileRecord,
    "index_change": IndexChange,
    "status": ServiceStatus,
}


def written(name: str) -> Any:
    return json.loads((WRITTEN / name).read_text())


def newer(value: Any, member: str = "") -> Any:
    """The same as the next version may write it: with a member more in every object."""
    if isinstance(value, list):
        return [newer(item) for item in value]
    if not isinstance(value, dict) or member in FREE:
        return value
    mapping = member in ("steps", "job", "json_schema")
    return {k: newer(v, k) for k, v in value.items()} | ({} if mapping else {NEWER: {"deep": [1]}})


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def messages() -> Iterator[tuple[str, Callable[[bytes], BaseModel], Any]]:
    yield "query", Query.decode, written("query.json")
    for event in written("events.json"):
        yield event["type"], decode_event, event
    for number, spec in enumerate(written("specs.json")):
        yield f"{spec['kind']}-{number}", decode_spec, spec
    yield "job", Job.model_validate_json, written("job.json")
    for name, model in RECORDS.items():
        yield name, model.model_validate_json, written("records.json")[name]


MESSAGES = list(messages())
IDS = [name for name, _, _ in MESSAGES]


@pytest.mark.parametrize(("name", "read", "message"), MESSAGES, ids=IDS)
def test_what_was_written_before_is_read(name: str, read: Callable[[bytes], BaseModel], message: Any) -> None:
    assert _holds(json.loads(read(encoded(message)).model_dump_json()), message)


@pytest.mark.parametrize(("name", "read", "message"), MESSAGES, ids=IDS)
def test_what_the_next_version_writes_is_read_as_far_as_it_is_known(
    name: str, read: Callable[[bytes], BaseModel], message: Any
) -> None:
    today, tomorrow = read(encoded(message)), read(encoded(newer(message)))
    known = type(today).model_fields
    assert {k: _known(getattr(tomorrow, k)) for k in known} == {k: _known(getattr(today, k)) for k in known}


@pytest.mark.parametrize(("name", "read", "message"), MESSAGES, ids=IDS)
def test_what_the_version_before_does_not_write_has_a_default(
    name: str, read: Callable[[bytes], BaseModel], message: Any
) -> None:
    before = json.loads(CONTRACT.read_text())["models"][type(read(encoded(message))).__name__]
    least = {key: value for key, value in message.items() if before.get(key) == "required" or key in ("kind", "type")}
    read(encoded(least))


def test_a_stage_passes_on_what_only_the_next_one_understands() -> None:
    query = Query.decode(encoded(newer(written("query.json"))))
    passed = json.loads(query.advance(query.trail[0]).encode())
    assert passed[NEWER] == {"deep": [1]}
    assert passed["slip"][0][NEWER] == passed["passages"][0][NEWER] == passed["trail"][0][NEWER] == {"deep": [1]}
    result = json.loads(encode_event(Result(query=query)))
    assert result["query"][NEWER] == {"deep": [1]}


def test_no_member_became_required_disappeared_or_got_another_default() -> None:
    """Defaults are not sent, so a reader of another version fills in its own: they must be the same for ever."""
    before, now = json.loads(CONTRACT.read_text())["models"], json.loads(json.dumps(contract()["models"]))
    for model, members in before.items():
        assert model in now, f"{model} is still read by the version before: keep it for one version"
        assert {name: now[model].get(name) for name in members} == members, model
        added = now[model].keys() - members.keys()
        assert not [name for name in added if now[model][name] == "required"], f"{model}: a new member needs a default"


def test_a_closed_set_of_values_grows_in_two_steps() -> None:
    """The version before does not know a new value: first one version reads it, then the next one writes it. Whoever
    adds a value writes the contract anew, and holds to that."""
    assert contract()["enums"] == json.loads(CONTRACT.read_text())["enums"]


def test_an_event_of_a_kind_that_is_not_known_is_skipped_by_readers_and_a_problem_of_one_is_internal() -> None:
    with pytest.raises(ValidationError):
        decode_event(b'{"type": "of-the-next-version", "attempt": 1}')
    details = ProblemDetails(type="urn:sluice:problem:of-the-next-version", title="New", status=400, detail="Why.")
    assert Problem.from_details(details).kind is ProblemType.INTERNAL


def test_typing_errors_are_told_where_a_person_wrote_them_and_only_there() -> None:
    misspelt = {"kind": "switch", "collection": "c", "keeep": 2}
    with pytest.raises(ValidationError):
        decode_spec(misspelt)
    with pytest.raises(ValidationError):
        step_spec(dict(misspelt))
    assert decode_spec(encoded(misspelt)) == step_spec(dict(misspelt), lenient=True)


def test_parameters_that_a_newer_gateway_gives_the_generator_are_ignored_but_forms_of_answers_are_not() -> None:
    assert GenerateParams.of({"max_tokens": 3, NEWER: 1}) == GenerateParams(max_tokens=3)
    with pytest.raises(Problem, match="set exactly one"):
        GenerateParams.of({"output": {NEWER: "form"}})


def _known(value: Any) -> Any:
    """Without the members that today's models do not have."""
    if isinstance(value, tuple | list):
        return [_known(item) for item in value]
    if isinstance(value, dict):
        return {key: _known(item) for key, item in value.items()}
    if isinstance(value, BaseModel):
        return {name: _known(getattr(value, name)) for name in type(value).model_fields}
    return value


def _holds(found: Any, message: Any) -> bool:
    """Whether all that was in the message has been found."""
    if isinstance(message, dict):
        return isinstance(found, dict) and all(_holds(found.get(key), value) for key, value in message.items())
    if isinstance(message, list):
        return len(found) == len(message) and all(map(_holds, found, message))
    return bool(found == message)
