"""A receiver of traces: OTLP over HTTP with protobuf, as a collector takes it."""

import gzip
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

__all__ = ["Received", "Receiver", "receiving"]

PATIENCE = 90.0


@dataclass(frozen=True, slots=True)
class Received:
    """A span as it came; ids are hex digits, `parent` is empty for a root."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    links: tuple[tuple[str, str], ...]
    failed: bool
    attributes: dict[str, object]


class Receiver:
    """What services have exported so far."""

    def __init__(self) -> None:
        self.url = ""
        self.headers: list[dict[str, str]] = []
        self._spans: list[Received] = []
        self._changed = threading.Condition()

    def take(self, body: bytes, headers: dict[str, str]) -> None:
        request = service.ExportTraceServiceRequest.FromString(body)
        with self._changed:
            self.headers.append(headers)
            for part in request.resource_spans:
                name = str(_attributes(part.resource.attributes)["service.name"])
                self._spans += [_received(name, span) for scope in part.scope_spans for span in scope.spans]
            self._changed.notify_all()

    @property
    def spans(self) -> list[Received]:
        with self._changed:
            return list(self._spans)

    def of(self, trace: str) -> list[Received]:
        return [span for span in self.spans if span.trace == trace]

    def wait(self, done: Callable[[list[Received]], bool]) -> list[Received]:
        """All spans, once they are such that `done` says yes."""
        end = time.monotonic() + PATIENCE
        with self._changed:
            while not done(list(self._spans)):
                assert self._changed.wait(end - time.monotonic()), sorted((s.trace, s.name) for s in self._spans)
            return list(self._spans)

    def named(self, trace: str, *names: str) -> list[Received]:
        """The spans of a trace with these names, once there is one of each."""

        def found(spans: list[Received]) -> list[Received]:
            return [span for span in spans if span.trace == trace and span.name in names]

        return found(self.wait(lambda spans: {span.name for span in found(spans)} == set(names)))


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Listen on a free port for as long as the block runs."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            assert self.headers["content-type"] == "application/x-protobuf"
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.take(body, {name.lower(): value for name, value in self.headers.items()})
            answer = service.ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _received(service: str, span: Span) -> Received:
    return Received(
        service=service,
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        attributes=_attributes(span.attributes),
    )


def _attributes(pairs: Sequence[KeyValue]) -> dict[str, object]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}
