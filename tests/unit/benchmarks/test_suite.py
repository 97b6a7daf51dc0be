"""The benchmarks have one shape, their page shows what was measured, and their load counts rightly."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks import page, suite
from benchmarks.load import Load, Response, bodies, load, post

NAMES = suite.names()
RECORDS = [pytest.param(record, id=record["name"]) for record in page.records()]


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_has_the_shape_that_the_suite_expects(name: str) -> None:
    module = suite.benchmark(name)
    assert module.TITLE
    assert module.ABOUT.strip()
    assert all(callable(getattr(module, part)) for part in ("measure", "table", "plot"))
    assert suite.parser(name).parse_args(["--quick"]).quick
    assert "--out" in suite.parser(name).format_help()


def test_the_page_says_what_the_results_give() -> None:
    assert page.PAGE.read_text() == page.text(), "python -m benchmarks page writes it anew"


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_has_a_plot_on_the_page(record: dict[str, Any], tmp_path: Path) -> None:
    page.draw(record, drawn := tmp_path / "plot.svg")
    assert drawn.stat().st_size > 5000
    assert (page.PLOTS / f"{record['name']}.svg").exists()


def test_the_page_begins_with_the_targets_that_were_missed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tax = {"median": 0.04, "min": 0.01, "max": 0.05}
    rates = {"first_ms": tax, "tokens_per_s": tax}
    record = {"name": "proxy", "results": {"levels": [{"concurrent": 8, "tax": tax, "bare": rates, "sluice": rates}]}}
    monkeypatch.setattr(page, "_section", lambda _: "")
    monkeypatch.setattr(suite, "RESULTS", tmp_path)
    suite.save(record)
    assert "| [Proxy tax](#proxy-tax) | 3 % or less, chats at once: 8 | 4.0% (1.0%-5.0%) | **no** |" in page.text()


def test_contenders_take_turns_in_rotating_order() -> None:
    assert list(suite.interleave("abc", 2)) == [(0, "a"), (0, "b"), (0, "c"), (1, "b"), (1, "c"), (1, "a")]


def test_a_spread_is_shown_as_its_median_with_the_least_and_the_most() -> None:
    assert suite.show(suite.spread([3000.0, 1000.0, 2000.0])) == "2,000 (1,000-3,000)"
    assert suite.show(suite.spread([-0.01, 0.02]), ".0%") == "0% (-1% to 2%)"


@asynccontextmanager
async def serving(*parts: bytes) -> AsyncIterator[str]:
    """A server that gives each request these bytes, which it writes one by one."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/ask"


def run(*parts: bytes, concurrent: int = 2, check: Callable[[Response], None] | None = None) -> Load:
    async def loaded() -> Load:
        async with serving(*parts) as url:
            return await load(url, bodies(url, [{}] * 6), concurrent=concurrent, check=check)

    return asyncio.run(loaded())


WHOLE = (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", b"lo")
CHUNKED = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nhel\r\n2\r\nl", b"o\r\n0\r\n\r\n")


@pytest.mark.parametrize("parts", [WHOLE, CHUNKED], ids=["with a length", "in chunks"])
def test_the_load_waits_for_the_end_of_each_answer(parts: tuple[bytes, ...]) -> None:
    seen: list[Response] = []
    result = run(*parts, check=seen.append)
    assert [response.body for response in seen] == [b"hello", b"hello"], "the first of each connection"
    assert (len(result.whole), result.failed) == (6, 0)
    assert all(first <= whole for first, whole in zip(result.first, result.whole, strict=True))


def test_the_load_counts_refusals_apart() -> None:
    result = run(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")
    assert (len(result.whole), result.failed) == (0, 6)


def test_the_load_ends_with_the_error_of_a_wrong_answer() -> None:
    def wrong(response: Response) -> None:
        raise AssertionError(response.body)

    with pytest.raises(AssertionError, match="hello"):
        run(*WHOLE, check=wrong)


def test_a_request_is_whole_http() -> None:
    head, _, body = post("http://127.0.0.1:1/ask", b'{"a": 1}').partition(b"\r\n\r\n")
    assert head.startswith(b"POST /ask HTTP/1.1\r\n")
    assert b"Content-Length: 8" in head
    assert json.loads(body) == {"a": 1}
