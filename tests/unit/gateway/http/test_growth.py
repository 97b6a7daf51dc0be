"""Ten times the input takes ten times the CPU time and memory, and not a hundred times, whatever is in it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from services.gateway.http.body import UNUSUAL_NUMBER
from services.gateway.http.models import NewCollection, QueryRequest, TextDocuments
from services.gateway.http.multipart import read_parts
from services.gateway.http.problems import invalid_request
from services.gateway.http.validation import MOST_UNKNOWN, SMALL, validated
from services.gateway.jobs.service import NewJob, check_spec
from services.gateway.routers import ROUTERS
from shared.contracts.jobs import PipelineSpec
from shared.contracts.pipelines import PipelineError, check_pipeline
from shared.contracts.problems import Problem
from tests.harness.growth import growth

Bodies = dict[str, tuple[Any, Callable[[int], str]]]


def members(count: int, value: str = "1") -> str:
    return ",".join(f'"x{number}": {value}' for number in range(count))


def listed(item: str, count: int) -> str:
    return "[" + ",".join([item] * count) + "]"


DOCUMENT = '{"name": "a", "text": "b"}'

BODIES: Bodies = {
    "wrong items": (TextDocuments, lambda size: f'{{"documents": {listed("1", size)}}}'),
    "items without members": (TextDocuments, lambda size: f'{{"documents": {listed("{}", size)}}}'),
    "unknown members": (NewCollection, lambda size: f'{{"name": "a", {members(size)}}}'),
    "unknown members of items": (
        TextDocuments,
        lambda size: f'{{"documents": {listed(f"""{{"name": "a", "text": "b", {members(20)}}}""", size // 20)}}}',
    ),
    "nested lists": (TextDocuments, lambda size: f'{{"documents": {listed("[[1]]", size)}}}'),
    "a filter of many members": (QueryRequest, lambda size: f'{{"question": "a", "filter": {{{members(size)}}}}}'),
    "wrong labels": (NewJob, lambda size: f'{{"spec": {{"kind": "reindex"}}, "labels": {{{members(size)}}}}}'),
    "wrong arguments": (
        NewJob,
        lambda size: f'{{"spec": {{"kind": "command", "command": {listed("1", size)}}}}}',
    ),
    "right documents": (
        TextDocuments,
        lambda size: f'{{"documents": {listed("""{"name": "a", "text": "b"}""", size)}}}',
    ),
}


VALID = {"right documents", "a filter of many members"}


def outcome(model: Any, body: str) -> object:
    try:
        return validated(model, body.encode())
    except ValidationError as error:
        return invalid_request(error.errors(include_url=False, include_context=False, include_input=False))
    except Problem as problem:
        return problem


@pytest.mark.parametrize("kind", BODIES)
def test_validating_a_body_is_linear(kind: str) -> None:
    model, body = BODIES[kind]
    assert growth(lambda size: outcome(model, body(size)), 1_000).is_linear


@pytest.mark.parametrize(
    "kind", [kind for kind in BODIES if kind not in ("right documents", "a filter of many members")]
)
def test_the_report_of_a_large_body_is_small_and_names_places(kind: str) -> None:
    model, body = BODIES[kind]
    problem = outcome(model, body(100_000))
    assert isinstance(problem, Problem)
    assert 1 <= len(problem.extras["errors"]) <= 20
    assert len(json.dumps(problem.extras["errors"])) < 32_000


def test_a_million_wrong_items_are_one_error() -> None:
    """Each error would be a kilobyte."""
    with pytest.raises(ValidationError) as caught:
        validated(TextDocuments, BODIES["wrong items"][1](1_000_000).encode())
    assert caught.value.error_count() == 1


def test_every_body_can_be_looked_at_briefly() -> None:
    """Of all routers, as importing them has made the classes."""
    assert ROUTERS
    waiting, found = [BaseModel], set()
    while waiting:
        for model in waiting.pop().__subclasses__():
            waiting.append(model)
            if model.__module__.startswith("services.gateway.") and model.model_fields:
                found.add(model)
    assert len(found) > 20
    for model in found:
        with suppress(ValidationError, Problem):
            validated(model, b'{"unheard-of": "' + b"x" * SMALL + b'"}')


def test_a_small_body_is_told_all_that_is_wrong_and_a_large_one_is_valid_as_ever() -> None:
    small = f'{{"documents": {listed("1", 10)}}}'
    assert len(small) < SMALL
    problem = outcome(TextDocuments, small)
    assert isinstance(problem, Problem)
    assert len(problem.extras["errors"]) == 10
    text = "x" * SMALL
    body = json.dumps({"documents": [{"name": "a", "text": text, "metadata": {"deep": [{"any": 1}]}}]})
    found = validated(TextDocuments, body.encode())
    assert found == TextDocuments.model_validate_json(body)
    few = json.dumps({"documents": [{"name": "a", "text": text, "extra": 1}]})
    problem = outcome(TextDocuments, few)
    assert isinstance(problem, Problem)
    assert problem.extras["errors"][0]["path"] == "documents[0].extra"
    many = f'{{"name": "a", {members(20 * MOST_UNKNOWN)}}}'
    assert len(many) > SMALL
    problem = outcome(NewCollection, many)
    assert isinstance(problem, Problem)
    assert problem.extras["errors"][0]["path"] == "x0"


@pytest.mark.parametrize("piece", [b"1", b"1" * 299 + b" ", b"1e", b"9e+", b"NaNInfinit", b"Infinit"])
def test_looking_for_numbers_is_linear(piece: bytes) -> None:
    def look(size: int) -> None:
        list(UNUSUAL_NUMBER.finditer(piece * size))

    assert growth(look, 20_000 // len(piece)).is_linear


@pytest.mark.parametrize(("text", "found"), [(b"1" * 300, True), (b"1" * 299, False), (b"-" + b"1" * 400, True)])
def test_a_number_of_300_digits_is_looked_at(text: bytes, found: bool) -> None:
    assert (UNUSUAL_NUMBER.search(text) is not None) is found


FORMS: dict[str, Callable[[int], bytes]] = {
    "data": lambda size: head() + b"x" * size + b"\r\n--edge--\r\n",
    "line ends": lambda size: head() + b"\r\n" * (size // 2) + b"\r\n--edge--\r\n",
    "almost boundaries": lambda size: head() + b"\r\n--edg" * (size // 7) + b"\r\n--edge--\r\n",
    "a long header": lambda size: b"--edge\r\nX-Long: " + b"x" * size,
    "many headers": lambda size: b"--edge\r\n" + b"a: b\r\n" * (size // 6),
    "many parts": lambda size: (head() + b"\r\n") * (size // 60) + b"--edge--\r\n",
}


def head() -> bytes:
    return b'--edge\r\nContent-Disposition: form-data; name="files"\r\n\r\n'


async def items(body: bytes) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    with suppress(Problem):
        async for _ in read_parts(pieces(), "multipart/form-data; boundary=edge"):
            pass


@pytest.mark.parametrize("kind", FORMS)
def test_reading_a_form_is_linear(kind: str) -> None:
    assert growth(lambda size: asyncio.run(items(FORMS[kind](size))), 10_000).is_linear


@pytest.mark.parametrize("content", ["X-Long: ", "X: y\r\n" * 16_384])
def test_the_head_of_a_part_is_bounded(content: str) -> None:
    async def read() -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield f"--edge\r\n{content}".encode()
            while True:
                yield b"x" * 1000

        async for _ in read_parts(pieces(), "multipart/form-data; boundary=edge"):
            pass

    with pytest.raises(Problem, match="Maximum header"):
        asyncio.run(read())


def command(argument: str, count: int = 1, **more: Any) -> dict[str, Any]:
    return {"job": {"kind": "command", "command": ["echo", *[argument] * count]}, **more}


PIPELINES: dict[str, Callable[[int], dict[str, Any]]] = {
    "beginnings of placeholders": lambda size: {"steps": {"a": command("${{" * (size // 3))}},
    "ends of placeholders": lambda size: {"steps": {"a": command("}}" * (size // 2))}},
    "placeholders": lambda size: {"steps": {"a": command("${{ index }}" * (size // 12))}},
    "placeholders of a parameter": lambda size: {
        "parameters": {"x": "x" * 1000},
        "steps": {"a": command("${{ parameters.x }}" * (size // 20))},
    },
    "a large parameter in many places": lambda size: {
        "parameters": {"x": "x" * size},
        "steps": {"a": command("${{ parameters.x }}", min(size // 100, 1000))},
    },
    "unknown needs": lambda size: {"steps": {"a": command("a", needs=[f"n{n}" for n in range(size // 8)])}},
    "wrong parameters": lambda size: {
        "parameters": {f"{n}": 1 for n in range(size // 8)},
        "steps": {"a": command("a")},
    },
    "names that nobody has": lambda size: {
        "parameters": {f"p{n}": 1 for n in range(size // 20)},
        "steps": {"a": command("${{ parameters.z }}", size // 40)},
    },
    "wrong values beside placeholders": lambda size: {
        "steps": {
            "b": command("a"),
            "a": {"job": {"kind": "evaluate", "collection": ["${{ b.job }}", 1] * (size // 20)}},
        }
    },
    "wrong arguments": lambda size: {"steps": {"a": {"job": {"kind": "command", "command": [1] * (size // 3)}}}},
    "conditions": lambda size: {"steps": {"a": command("a", when="not " * (size // 4) + "true")}},
    "items": lambda size: {"steps": {"a": command("a", each=["${{ x }}"] * (size // 10))}},
}


def check(spec: PipelineSpec) -> None:
    with suppress(PipelineError):
        check_pipeline(spec)


@pytest.mark.parametrize("kind", PIPELINES)
def test_checking_a_pipeline_is_linear(kind: str) -> None:
    specs = {size: PipelineSpec(name="p", **PIPELINES[kind](size)) for size in (10_000, 100_000)}
    assert growth(lambda size: check(specs[size]), 10_000).is_linear


@pytest.mark.parametrize("kind", sorted(set(PIPELINES) - {"ends of placeholders"}))
def test_what_is_wrong_with_a_pipeline_is_said_in_few_words(kind: str) -> None:
    with pytest.raises(Problem) as caught:
        check_spec(PipelineSpec(name="p", **PIPELINES[kind](400_000)))
    assert len(json.dumps(caught.value.extras)) + len(caught.value.detail or "") < 64_000
