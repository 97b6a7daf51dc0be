"""Following a bucket: what is on its way is waited for before anything is told."""

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shared.nats.watch import watch_records

pytestmark = pytest.mark.anyio


class HastyWatcher:
    """A watch whose client says that there is nothing, while the broker has sent two entries."""

    def __init__(self) -> None:
        sent = SimpleNamespace(delivered=SimpleNamespace(consumer_seq=2))
        self._sub = SimpleNamespace(consumer_info=self._answer(sent))
        self._coming = [None, entry("a", left=1), entry("b", left=0)]

    async def updates(self, timeout: float) -> Any:
        if self._coming:
            return self._coming.pop(0)
        return await asyncio.Event().wait()

    async def stop(self) -> None: ...

    @staticmethod
    def _answer(value: Any) -> Any:
        async def answer() -> Any:
            return value

        return answer


def entry(key: str, left: int) -> Any:
    return SimpleNamespace(key=key, value=key.encode(), operation=None, delta=left)


async def test_nothing_is_told_before_all_entries_are_there() -> None:
    watcher = HastyWatcher()

    async def watch(*_: Any, **__: Any) -> HastyWatcher:
        return watcher

    async def key_value(_: str) -> Any:
        return SimpleNamespace(watch=watch)

    client = cast("Any", SimpleNamespace(is_connected=True, stats={"reconnects": 0}))
    told: list[Mapping[str, str]] = []
    async with watch_records(
        client,
        cast("Any", SimpleNamespace(key_value=key_value)),
        "keys",
        read=lambda _, value, __: value.decode(),
        changed=told.append,
    ):
        pass
    assert told == [{"a": "a", "b": "b"}]
