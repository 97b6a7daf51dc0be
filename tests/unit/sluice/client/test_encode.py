"""What a request cannot hold is refused by the client, in words and before anything is sent."""

import math
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from sluice import Client, SluiceError

LONE = "a\udcff"
"""How Python passes on an argument of the command line that is not UTF-8."""


def _refusing(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"{request.url} was asked")


@pytest.fixture
def client() -> Client:
    return Client("http://127.0.0.1:1", transport=httpx.MockTransport(_refusing))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda client: client.train("d", learning_rate=math.nan), "learning_rate: nan is not a number that JSON has"),
        (lambda client: client.submit_job({"kind": "x", "a": [1.0, {"b": -math.inf}]}), "a[1].b: -inf"),
        (lambda client: client.submit_job({"kind": "x", LONE: 1}), "the name 'a\\udcff'"),
        (lambda client: client.query(LONE), "question: 'a\\udcff' is not valid UTF-8"),
        (lambda client: client.release(LONE), "'a\\udcff' is not valid UTF-8"),
        (lambda client: client.feedback(collection=LONE), "'a\\udcff' is not valid UTF-8"),
        (lambda client: list(client.stream(LONE)), "question: 'a\\udcff'"),
    ],
)
def test_what_a_request_cannot_hold_is_named(client: Client, call: Callable[[Client], Any], named: str) -> None:
    with pytest.raises(SluiceError) as refused:
        call(client)

    assert refused.value.code == "invalid-request"
    assert named in refused.value.problem.detail


@pytest.mark.parametrize("key", [LONE, "sl-ключ", "sl-a\nb"])
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(SluiceError) as refused:
        Client("http://127.0.0.1:1", api_key=key)

    assert refused.value.code == "invalid-request"
    assert key not in str(refused.value)
