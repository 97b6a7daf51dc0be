"""A broker that only writes down what is asked of it, so that no server is needed to see what Sluice asks for."""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final, cast

from nats.aio.client import Client, ServerVersion
from nats.aio.msg import Msg

__all__ = ["FakeBroker"]

API: Final = "$JS.API."
CREATED: Final = "2026-01-01T00:00:00Z"
STATE: Final = dict.fromkeys(("messages", "bytes", "first_seq", "last_seq", "consumer_count"), 0)
NOT_FOUND: Final = {"error": {"code": 404, "err_code": 10059, "description": "stream not found"}}

MOMENT: Final = re.compile(r"\d{4}-\d{2}-\d{2}T[0-9:.]+(\+00:00|Z)")


@dataclass
class FakeBroker:
    """Stands in for the connection of a JetStream context.

    `created` is what was created, by the subject of the request; `messages` is what was published, by subject.
    """

    created: dict[str, Any] = field(default_factory=dict)
    messages: dict[str, Any] = field(default_factory=dict)
    streams: dict[str, Any] = field(default_factory=dict)
    max_payload: int = 2**20
    is_connected: bool = True
    connected_server_version: ServerVersion = field(default_factory=lambda: ServerVersion("2.15.0"))

    async def request(
        self, subject: str, payload: bytes = b"", timeout: float = 0, *_: Any, headers: Any = None, **__: Any
    ) -> Msg:
        if not subject.startswith(API):
            await self.publish(subject, payload, headers=headers)
            return self._answer({"stream": "any", "seq": 1})
        return self._call(subject.removeprefix(API), json.loads(payload) if payload else {})

    async def publish(self, subject: str, payload: bytes = b"", reply: str = "", headers: Any = None) -> None:
        self.messages[subject] = {
            "headers": {
                name: "<time>" if name.endswith("-At") else MOMENT.sub("<time>", str(value))
                for name, value in (headers or {}).items()
            },
            "body": _timeless(json.loads(payload)) if payload else None,
        }

    def _call(self, call: str, asked: dict[str, Any]) -> Msg:
        noun, verb, rest = call.split(".", 2)
        if (noun, verb) == ("STREAM", "INFO"):
            known = self.streams.get(rest)
            return self._answer(NOT_FOUND if known is None else {"config": dict(known), "state": dict(STATE)})
        if (noun, verb) == ("STREAM", "CREATE"):
            self.streams[rest] = asked
            # Numbers that no message has had before: the time.
            self.created[call] = asked | ({"first_seq": "<time>"} if asked.get("first_seq") else {})
            return self._answer({"config": dict(asked), "state": dict(STATE), "created": CREATED})
        if (noun, verb) == ("STREAM", "UPDATE"):
            self.streams[rest] = self.created[f"STREAM.CREATE.{rest}"] = asked
            return self._answer({"config": dict(asked), "state": dict(STATE), "created": CREATED})
        if (noun, verb) == ("CONSUMER", "CREATE"):
            self.created[call] = asked
            names = {"name": rest.split(".")[1], "stream_name": rest.split(".")[0], "created": CREATED}
            return self._answer({"config": dict(asked["config"]), **names})
        if (noun, verb) == ("DIRECT", "GET"):
            return Msg(_client=cast("Client", self), headers={"Status": "404"})
        return self._answer(NOT_FOUND)

    def _answer(self, answer: dict[str, Any]) -> Msg:
        return Msg(_client=cast("Client", self), data=json.dumps(answer).encode())


def _timeless(body: Any) -> Any:
    """A body in which moments are only that."""
    if isinstance(body, dict):
        return {key: "<time>" if key.endswith("_at") and value else _timeless(value) for key, value in body.items()}
    return body
