"""`python -m shared.service.health`: exit 0 where the service of this container is ready, else 1.

For health checks inside an image that has no curl. It imports next to nothing, since it is run every few seconds.
"""

import os
import socket
import sys

__all__ = ["is_ready"]

SECONDS = 2.0
LOOPBACK = "127.0.0.1"


def is_ready(port: int, path: str = "/readyz") -> bool:
    """Whether the service that listens on `port` of this machine answers with 200 within two seconds."""
    request = f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((LOOPBACK, port), timeout=SECONDS) as connection:
            connection.sendall(request.encode())
            status = connection.makefile("rb").readline(64)
    except OSError:
        return False
    return status.split()[1:2] == [b"200"]


if __name__ == "__main__":
    sys.exit(not is_ready(int(os.environ["SLUICE_HTTP_PORT"])))
