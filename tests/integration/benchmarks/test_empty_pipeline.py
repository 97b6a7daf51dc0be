"""The benchmark of the empty pipeline asks a platform that answers rightly."""

import asyncio

import pytest

from benchmarks.load import Response, load
from benchmarks.pipeline.contenders import Sluice, check


def test_every_answer_of_the_empty_pipeline_is_whole() -> None:
    with Sluice() as sluice:
        for streamed in (False, True):
            seen: list[Response] = []
            requests = [sluice.request(number, streamed) for number in range(8)]
            result = asyncio.run(load(sluice.url, requests, concurrent=4, check=seen.append))
            assert (len(result.whole), result.failed, len(seen)) == (8, 0, 4)
            for response in seen:
                check(response, streamed)


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_that_lacks_something_does_not_pass(streamed: bool) -> None:
    body = b'event: sources\ndata: {"sources": []}\n\nevent: done\ndata: {}\n\n' if streamed else b'{"answer": "a"}'
    with pytest.raises((AssertionError, KeyError)):
        check(Response(200, b"", body), streamed)
