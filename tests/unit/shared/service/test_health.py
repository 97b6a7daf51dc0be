"""The health check of containers."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shared.service.health import is_ready


@contextmanager
def served(answer: bytes) -> Iterator[int]:
    """A server of one connection; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def test_a_service_that_answers_200_is_ready() -> None:
    with served(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as port:
        assert is_ready(port)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"", b"200"])
def test_a_service_that_answers_anything_else_is_not(answer: bytes) -> None:
    with served(answer) as port:
        assert not is_ready(port)


def test_a_port_that_nobody_listens_on_is_not_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    assert not is_ready(port)
