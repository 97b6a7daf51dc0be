"""The gateway's HTTP: whatever is sent, the answer is one of the API's, never an error of the server's own, and the
connection and the server go on."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import example, given
from hypothesis import strategies as st

from shared.contracts.envelope import Query, pack_vector
from shared.runtime.stage import Context
from tests.fuzz.hypothesis_runner import example_began, fuzzed, saw
from tests.fuzz.operations import BODIES, INFERENCE, OPENAI, READS, WRITES, Operation
from tests.fuzz.raw_http import Answer, Closed, Connection, request
from tests.fuzz.values import bent_bytes, damaged, deep, json_bytes, odd_texts
from tests.harness.broker import NatsServer
from tests.harness.models import write_doubler
from tests.harness.processes import ServiceProcess
from tests.harness.stages import ALL, Stages

JSON = ("Content-Type", "application/json")


class Gateway:
    """The gateway, how its answers are held to the API, and what its log says of failures."""

    def __init__(self, process: ServiceProcess, log: Path) -> None:
        self.process = process
        self.port = int(process.url.rpartition(":")[2])
        self._log = log
        self._read = 0

    def ask(self, data: bytes, *, method: str = "GET", path: str = "/") -> Answer | None:
        """Send a request and hold the answer to the API; None where the server closes the connection instead.

        Afterwards the same connection serves another request, if it was left open, and the log tells of no failure.
        """
        with Connection(self.port) as connection:
            connection.send(data)
            try:
                answer = connection.answer(method)
            except Closed:
                self.check_log()
                return None
            self.check(answer, path, method)
            if answer.open:
                connection.send(request("GET", b"/livez"))
                assert connection.answer().status == 200, "the connection can be used again"
        self.check_log()
        return answer

    def check(self, answer: Answer, path: str, method: str = "GET") -> None:
        assert answer.status not in (500, 501, 503, 505), (answer.status, answer.body[:1000])
        if answer.status < 400:
            if answer.media_type.endswith("json") and answer.body:
                json.loads(answer.body, parse_constant=_no_json)
            return
        if answer.status == 431 or (answer.media_type == "text/plain" and b"Invalid HTTP request" in answer.body):
            return  # of the server itself, which could not make out a request
        if method == "HEAD":
            return
        problem = json.loads(answer.body, parse_constant=_no_json)
        if isinstance(problem.get("error"), str) and (path.startswith(INFERENCE) or path.endswith(":predict")):
            assert answer.media_type == "application/json"
            assert problem["error"]
            return
        if "error" in problem and path.startswith(OPENAI):
            assert answer.media_type == "application/json"
            assert {"message", "type", "param", "code"} <= problem["error"].keys()
            return
        assert answer.media_type == "application/problem+json"
        assert problem["status"] == answer.status
        assert problem["title"]
        assert len(problem["detail"]) < 4000

    def check_log(self) -> None:
        """Nothing that has failed was logged since the last time."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            new = log.read()
            self._read += len(new)
        failures = [line for line in new.split(b"\n") if b'"level": "ERROR"' in line or b"Traceback" in line]
        assert not failures, failures[0][-3000:].decode(errors="replace")


def _no_json(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


async def embed(query: Query, _: Context) -> Query:
    vector = pack_vector([1.0, 0.0])
    passages = (passage.model_copy(update={"vector": vector}) for passage in query.passages)
    return query.with_embedding(vector).with_passages(passages)


@pytest.fixture(scope="module")
def gateway(broker: NatsServer, folder: Path) -> Iterator[Gateway]:
    """A real gateway with stages that answer."""
    with start_blocking_portal() as portal:
        stages = Stages(broker.url)
        stages.does["embed"] = embed
        stages.models = {"embed": "tiny-embedder", "generate": "tiny-1"}
        process = ServiceProcess(
            "services.gateway",
            folder,
            nats_url=broker.url,
            allow_anonymous=True,
            default_timeout=5,
            openai_timeout=5,
            body_idle_seconds=5,
            max_body_bytes=300_000,
            max_file_bytes=100_000,
            max_texts_bytes=100_000,
            max_batch_file_bytes=100_000,
        )
        write_doubler(folder / "models" / "doubler" / "1")
        predictor = ServiceProcess(
            "services.predictor", folder, nats_url=broker.url, model_repository=folder / "models"
        )
        with portal.wrap_async_context_manager(stages.running(("condense", *ALL))), process, predictor:
            made = httpx.post(f"{process.url}/v1/collections", json={"name": "default"}, trust_env=False)
            assert made.status_code == 201
            yield Gateway(process, next(folder.glob("gateway-*.log")))


# Bodies of JSON


def _names(seed: Any) -> tuple[str, ...]:
    return tuple(seed) if isinstance(seed, dict) else ()


operations = st.sampled_from(BODIES).flatmap(
    lambda operation: st.tuples(st.just(operation), bent_bytes([operation.seed], names=_names(operation.seed), most=3))
)
NESTED = [
    (operation, json_bytes({**operation.seed, member: deep(levels, lambda inner: {"a": inner})}))
    for operation, member, levels in [
        *((BODIES[0], "filter", levels) for levels in (5, 9, 190, 197, 250)),
        *((BODIES[1], "tools", levels) for levels in (190, 197, 250)),
    ]
]


@fuzzed(100)
@given(asked=operations)
@example(asked=(BODIES[0], b'{"question": "What?", "timeout": NaN}'))
@example(asked=(BODIES[0], b'{"question": "What?", "timeout": 1e999}'))
@example(asked=(BODIES[7], json_bytes({**BODIES[7].seed, "timeout": float("inf")})))
@example(asked=(BODIES[11], json_bytes({**BODIES[11].seed, "cron": "*/" + "9" * 5000 + " * * * *"})))
@example(asked=(BODIES[11], json_bytes({**BODIES[11].seed, "cron": "\u0663 * * * *"})))
@example(asked=(BODIES[12], json_bytes({**BODIES[12].seed, "every": "9" * 5000 + "s"})))
def test_any_body_is_answered_or_refused_with_a_problem(gateway: Gateway, asked: tuple[Operation, bytes]) -> None:
    example_began()
    operation, body = asked
    path = operation.path.replace("{}", "j1")
    answer = gateway.ask(request(operation.method, path.encode(), body, JSON), method=operation.method, path=path)
    assert answer is not None, "a request that can be read is answered"
    saw(str(answer.status))


@pytest.mark.parametrize("levels", [3, 60, 150, 170, 180, 184, 188, 190, 192, 194, 196, 198, 200, 300, 5000])
@pytest.mark.parametrize("member", ["tools", "json_schema", "notes"])
def test_json_of_any_depth_is_answered_or_refused_at_once(gateway: Gateway, levels: int, member: str) -> None:
    inner = '{"a":' * levels + "1" + "}" * levels
    body = {
        "tools": '{"model":"tiny-1","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":'
        f'{{"name":"w","parameters":{inner}}}}}]}}',
        "json_schema": f'{{"question":"What?","generate":{{"output":{{"json_schema":{inner}}}}}}}',
        "notes": f'{{"question":"What?","filter":{inner}}}',
    }[member]
    path = "/v1/chat/completions" if member == "tools" else "/v1/query"
    answer = gateway.ask(request("POST", path.encode(), body.encode(), JSON), method="POST", path=path)
    assert answer is not None
    assert answer.status != 504, "it is known at once that it does not work"


# Paths, queries and headers

odd_bytes = odd_texts.map(lambda text: text.encode("utf-8", "surrogatepass"))
names = odd_bytes.map(lambda data: quote_from_bytes(data, safe="")) | st.sampled_from(
    [
        "j1",
        "default",
        "..",
        "%2e%2e",
        "%2F",
        "a%2Fb",
        "%ff",
        "%",
        "%zz",
        "*",
        "%3E",
        "a" * 500,
        "v1",
        "-1",
        "0",
        "1e3",
        "~",
    ]
)
parameters = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "limit",
                "after",
                "prefix",
                "text",
                "warned",
                "state",
                "kind",
                "label",
                "parent",
                "name",
                "order",
                "purpose",
                "follow",
                "x",
            ]
        ),
        names,
    ),
    max_size=3,
).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs))
header_values = odd_bytes.map(lambda data: data.translate(None, b"\r\n\0")) | st.sampled_from(
    [
        *(
            b"*",
            b'"1"',
            b'W/"1"',
            b"1",
            b"-1",
            b"bytes=0-1",
            b"cross-site",
            b"100-continue",
            b"gzip",
            b"identity",
            b"close",
        ),
        *(
            b"00-" + b"f" * 32 + b"-" + b"e" * 16 + b"-01",
            b"a=" + b"b" * 600,
            b"text/event-stream",
            b"application/json",
        ),
        *(b"websocket", b"h2c", b"Upgrade", b"Bearer x", b"\xff\xfe", b"http://evil.example", b"text/plain;q=2;;", b""),
    ]
)
extra_headers = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *(
                    "Accept",
                    "Authorization",
                    "X-API-Key",
                    "If-Match",
                    "If-None-Match",
                    "Idempotency-Key",
                    "traceparent",
                ),
                *(
                    "tracestate",
                    "baggage",
                    "Origin",
                    "Sec-Fetch-Site",
                    "Expect",
                    "Range",
                    "Connection",
                    "Upgrade",
                    "Cookie",
                ),
                *(
                    "Content-Type",
                    "Content-Encoding",
                    "X-Forwarded-For",
                    "Host",
                    "Accept-Encoding",
                    "X-Request-Id",
                    "TE",
                ),
            ]
        ),
        header_values,
    ),
    max_size=4,
)
methods = st.sampled_from(["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "POST", "TRACE", "PROPFIND", "CONNECT"])


@fuzzed(120)
@given(
    operation=st.sampled_from(READS + WRITES + BODIES),
    name=names,
    query=parameters,
    headers=extra_headers,
    method=st.none() | methods,
)
@example(operation=READS[6], name="%00", query="", headers=[], method=None)
@example(operation=READS[-1], name="%ff", query="", headers=[("traceparent", b"\xff")], method="HEAD")
def test_any_path_and_any_headers_are_answered_or_refused_with_a_problem(
    gateway: Gateway,
    operation: Operation,
    name: str,
    query: str,
    headers: list[tuple[str, bytes]],
    method: str | None,
) -> None:
    example_began()
    path = operation.path.replace("{}", name)
    if path.startswith(("/v1/routes/", "/v1/collections/default")) and name in ("embed", "generate", "retrieve", ""):
        path = "/v1/routes/other"
    if path.rstrip("/") == "/v1/collections/default":
        path = "/v1/collections/spare"
    target = path + (("&" if "?" in path else "?") + query if query else "")
    body = None if operation.seed is None else json_bytes(operation.seed)
    chosen = method or operation.method
    given_headers = [*headers, *([JSON] if body and not any(name == "Content-Type" for name, _ in headers) else [])]
    answer = gateway.ask(request(chosen, target.encode(), body, *given_headers), method=chosen, path=path)
    saw("closed" if answer is None else str(answer.status))


# Forms


def form(parts: list[tuple[bytes, bytes]], boundary: bytes = b"B0undary") -> bytes:
    lines = b"".join(b"--" + boundary + b"\r\n" + head + b"\r\n\r\n" + body + b"\r\n" for head, body in parts)
    return lines + b"--" + boundary + b"--\r\n"


DOCUMENTS = form(
    [
        (
            b'Content-Disposition: form-data; name="files"; filename="a/b.txt"\r\nContent-Type: text/plain',
            b"Some text.",
        ),
        (b"Content-Disposition: form-data; name=\"files\"; filename*=UTF-8''%c3%bc.md", b"# Title\n\ntext"),
        (b'Content-Disposition: form-data; name="metadata"', b'{"year": 2020}'),
    ]
)
FILE = form(
    [
        (b'Content-Disposition: form-data; name="purpose"', b"batch"),
        (b'Content-Disposition: form-data; name="file"; filename="in.jsonl"', b'{"custom_id": "1"}\n'),
    ]
)
FORM_TOKENS = (
    *(
        b"--B0undary",
        b"--B0undary\r\n",
        b"--B0undary--",
        b"--B0undary--\r\n",
        b"\r\n\r\n",
        b"\r",
        b"\n",
        b"--",
        b"\0",
        b'"',
    ),
    *(
        b'name="',
        b'filename="',
        b"filename*=",
        b"UTF-8''%ff",
        b"x'y'%",
        b'filename="..\\..\\x"',
        b"; ",
        b'name="files"',
        b"\xff",
    ),
    *(
        b'Content-Disposition: form-data; name="metadata"\r\n\r\n',
        b"Content-Transfer-Encoding: base64\r\n",
        b"X: y\r\n",
    ),
    *(b"X" * 9000, b"X: " + b"y" * 9000 + b"\r\n", b"{" * 3000, b"1e999", b"NaN", b'{"\\ud800": 1}', b"9" * 5000),
)
content_types = st.sampled_from(
    [
        *(b"multipart/form-data; boundary=B0undary",) * 8,
        *(b"multipart/form-data", b"multipart/form-data; boundary=", b'multipart/form-data; boundary="B0undary"'),
        *(
            b"multipart/form-data; boundary=\xff",
            b"multipart/form-data; boundary=" + b"x" * 300,
            b"multipart/mixed; boundary=x",
        ),
        *(
            b"multipart/form-data; boundary=B0undary; charset=utf-16",
            b"multipart/form-data;;boundary=B0undary;x",
            b"\xff/\xff",
        ),
    ]
)


def chunked(body: bytes, seed: int) -> bytes:
    """The body in chunks of any size, at times with extensions, odd hexadecimal or a trailer."""
    chance, pieces, at = random.Random(seed), [], 0
    while at < len(body):
        size = chance.choice([1, 7, 64, 4096])
        piece = body[at : at + size]
        extension = chance.choice([b"", b"", b";a=b", b" "])
        pieces.append(b"%x" % len(piece) + extension + b"\r\n" + piece + b"\r\n")
        at += size
    return b"".join(pieces) + b"0\r\n" + chance.choice([b"", b"X: y\r\n"]) + b"\r\n"


@fuzzed(80)
@given(
    path=st.sampled_from([("/v1/collections/default/documents", DOCUMENTS), ("/v1/files", FILE)]).flatmap(
        lambda pair: st.tuples(st.just(pair[0]), damaged(pair[1], tokens=FORM_TOKENS, most=4))
    ),
    content_type=content_types,
    seed=st.none() | st.integers(0, 1000),
)
def test_any_form_is_taken_or_refused_with_a_problem(
    gateway: Gateway, path: tuple[str, bytes], content_type: bytes, seed: int | None
) -> None:
    example_began()
    target, body = path
    if seed is None:
        data = request("POST", target.encode(), body, ("Content-Type", content_type))
    else:
        headers = (("Content-Type", content_type), ("Transfer-Encoding", "chunked"))
        data = request("POST", target.encode(), chunked(body, seed), *headers)
    answer = gateway.ask(data, method="POST", path=target)
    saw("closed" if answer is None else str(answer.status))


# What is hardly HTTP

WIRE_TOKENS = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b":",
        b"\0",
        b"HTTP/1.0",
        b"HTTP/0.9",
        b"HTTP/9.9",
        b"HTTP/1.1\r\n",
    ),
    *(
        b"Content-Length: 5\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length: +5\r\n",
    ),
    *(
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: x\r\n",
        b"0\r\n\r\n",
        b"ffffffff\r\n",
    ),
    *(
        b"fffffffffffffffff\r\n",
        b"5;" + b"x" * 3000 + b"\r\nhello\r\n",
        b"-1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"Host: a\r\nHost: b\r\n",
    ),
    *(
        b"X: " + b"y" * 70_000 + b"\r\n",
        b"X: y\r\n" * 2000,
        b"/" * 70_000,
        b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        b"Connection: close\r\n",
    ),
    *(
        b"Expect: 100-continue\r\n",
        b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
        b"%00",
        b"\xff",
        b"http://x:99999/",
        b"*",
        b"?",
        b"#",
    ),
)
WHOLE = [
    request("POST", b"/v1/query", json_bytes({"question": "What?"}), JSON),
    request(
        "POST", b"/v1/query", chunked(json_bytes({"question": "What?"}), 3), JSON, ("Transfer-Encoding", "chunked")
    ),
    request("GET", b"/v1/collections?limit=3"),
    request("GET", b"/v1/jobs") + request("GET", b"/v1/models") + request("GET", b"/livez"),
    request(
        "POST",
        b"/v1/collections/default/documents",
        DOCUMENTS,
        ("Content-Type", content_type := "multipart/form-data; boundary=B0undary"),
    ),
]


@fuzzed(100)
@given(data=st.sampled_from(WHOLE).flatmap(lambda whole: damaged(whole, tokens=WIRE_TOKENS, most=4)))
@example(data=b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
@example(data=b"GET / HTTP/1.1\r\nX: " + b"y" * 1_000_000)
def test_any_bytes_are_answered_or_the_connection_is_closed(gateway: Gateway, data: bytes) -> None:
    example_began()
    with Connection(gateway.port) as connection:
        connection.send(data)
        connection.finish()
        answers = 0
        try:
            while (answer := connection.answer(_method(data, answers))).open:
                gateway.check(answer, "/v1/chat/" if b"/v1/models" in data else "/")
                answers += 1
            gateway.check(answer, "/v1/chat/" if b"/v1/models" in data else "/")
            answers += 1
        except Closed:
            pass
    saw(f"{answers} answers")
    gateway.check_log()
    with Connection(gateway.port) as connection:
        connection.send(request("GET", b"/livez"))
        assert connection.answer().status == 200, "the server goes on"


def _method(data: bytes, number: int) -> str:
    return "HEAD" if b"HEAD " in data and number == 0 else "GET"


def test_headers_that_never_end_are_refused_before_they_fill_the_memory(gateway: Gateway) -> None:
    with Connection(gateway.port) as connection:
        connection.send(b"GET /livez HTTP/1.1\r\nX: ")
        for _ in range(64):
            connection.send(b"y" * 2**20)
        assert connection.answer().status == 431
    gateway.check_log()
