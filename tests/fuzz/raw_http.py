"""HTTP/1.1 by hand on a socket, so that requests can be as wrong as they like and answers are read strictly."""

import socket
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

__all__ = ["Answer", "Closed", "Connection", "request"]

PATIENCE = 30.0


class Closed(Exception):  # noqa: N818  (it is how a server may well answer rubbish)
    """The server has closed the connection before an answer, or within one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`open` says whether the connection can be used again."""

    status: int
    headers: dict[str, str]
    body: bytes
    open: bool

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]


def request(
    method: str, target: bytes, body: bytes | None = None, *headers: tuple[str | bytes, str | bytes], host: bool = True
) -> bytes:
    """A request as bytes. With a body, its length is said unless a header says how it is sent."""
    lines = [method.encode() + b" " + target + b" HTTP/1.1"]
    named = [(_bytes(name), _bytes(value)) for name, value in headers]
    if host and not any(name.lower() == b"host" for name, _ in named):
        named.insert(0, (b"Host", b"localhost"))
    if body is not None and not any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in named):
        named.append((b"Content-Length", str(len(body)).encode()))
    lines += [name + b": " + value for name, value in named]
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


class Connection:
    """One connection. Answers are read in order, each to its end."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def send(self, data: bytes) -> None:
        """As much as the server takes."""
        # What was answered before can still be read.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(data)

    def finish(self) -> None:
        """Send no more: whoever waits for the rest of a request sees that it does not come."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def answer(self, method: str = "GET") -> Answer:
        """The next answer; of an endless stream its head alone. Raises Closed."""
        while True:
            head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
            version, status, *_ = head[0].split(" ")
            assert version == "HTTP/1.1", head[0]
            if not 100 <= int(status) < 200:
                break
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        code = int(status)
        if headers.get("content-type", "").startswith("text/event-stream"):
            return Answer(status=code, headers=headers, body=b"", open=False)
        body, framed = self._body(method, code, headers)
        left_open = framed and headers.get("connection", "").lower() != "close"
        return Answer(status=code, headers=headers, body=body, open=left_open)

    def _body(self, method: str, status: int, headers: dict[str, str]) -> tuple[bytes, bool]:
        if method == "HEAD" or status in (204, 304):
            return b"", True
        if headers.get("transfer-encoding") == "chunked":
            pieces = []
            while size := int(self._until(b"\r\n"), 16):
                pieces.append(self._exactly(size))
                assert self._until(b"\r\n") == b""
            self._until(b"\r\n")
            return b"".join(pieces), True
        if "content-length" in headers:
            return self._exactly(int(headers["content-length"])), True
        return self._rest(), False

    def rest(self) -> bytes:
        """All that comes until the server closes the connection."""
        return self._rest()

    def _until(self, end: bytes) -> bytes:
        while end not in self._received:
            self._more()
        found, _, self._received = self._received.partition(end)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            self._more()
        found, self._received = self._received[:size], self._received[size:]
        return found

    def _rest(self) -> bytes:
        try:
            while True:
                self._more()
        except Closed:
            found, self._received = self._received, b""
            return found

    def _more(self) -> None:
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed(self._received[:200])
        self._received += data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
