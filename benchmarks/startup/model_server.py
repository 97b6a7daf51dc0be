"""A model server of a few lines, for a generator with the engine `openai` to start with."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["model_server"]

MODELS = {"object": "list", "data": [{"id": "tiny", "object": "model"}]}
CHUNK = {"id": "1", "object": "chat.completion.chunk", "model": "tiny"}
WORD = {"index": 0, "delta": {"role": "assistant", "content": "Yes."}, "finish_reason": None}
END = {"index": 0, "delta": {}, "finish_reason": "stop"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(json.dumps(MODELS), "application/json")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        chunks = [json.dumps(CHUNK | {"choices": [choice]}) for choice in (WORD, END)]
        self._answer("".join(f"data: {chunk}\n\n" for chunk in (*chunks, "[DONE]")), "text/event-stream")

    def _answer(self, body: str, content_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def model_server() -> Iterator[str]:
    """Its base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
