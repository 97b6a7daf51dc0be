"""A tiny service: serves its readiness and its process id on the socket SLUICE_HTTP_FD, and notes its end.

Usage: http_service.py NAME JOURNAL [deaf] [family]. `deaf` ignores SIGTERM, `family` starts a process of its own.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEPT = ("SLUICE_", "HF_", "OMP_", "TEST_", "AWS_")

name, journal, *flags = sys.argv[1:]
grandchild = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) if "family" in flags else None
facts = {
    "name": name,
    "pid": os.getpid(),
    "grandchild": grandchild.pid if grandchild else None,
    "environment": {key: value for key, value in os.environ.items() if key.startswith(KEPT)},
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(facts).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def on_sigterm(*_: object) -> None:
    if "deaf" in flags:
        return
    with open(journal, "a") as file:
        file.write(f"{name}\n")
    threading.Thread(target=server.shutdown).start()


server = ThreadingHTTPServer(("", 0), Handler, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=int(os.environ["SLUICE_HTTP_FD"]))
signal.signal(signal.SIGTERM, on_sigterm)
print(json.dumps({"level": "INFO", "message": f"{name} serves"}), flush=True)
server.serve_forever()
