"""Reading key-value buckets."""

from collections.abc import AsyncIterator
from typing import Final

from nats.errors import TimeoutError as NatsTimeout
from nats.js.kv import KeyValue

__all__ = ["CHANGED", "delivered", "snapshot"]

CHANGED: Final = frozenset({10071, 10164})
"""The broker's refusals of a write that names an older revision than the last."""


async def snapshot(bucket: KeyValue, keys: str) -> AsyncIterator[tuple[str, bytes]]:
    """The entries of a bucket whose keys match, as they are now. Raises TimeoutError if the broker falls silent."""
    # The broker keeps a reading position for each; by itself the client would let it stay for five minutes.
    watcher = await bucket.watch(keys, inactive_threshold=5.0)
    try:
        while True:
            try:
                entry = await watcher.updates(timeout=10)  # type: ignore[no-untyped-call]
            except NatsTimeout:
                raise TimeoutError("the broker did not send the whole of a bucket") from None
            if entry is not None:
                if entry.operation is None:
                    yield entry.key, entry.value or b""
                if not entry.delta:
                    return
            elif not await delivered(watcher):
                # The client says so too where all entries are on their way to it, so the broker has to be asked.
                return
    finally:
        await watcher.stop()  # type: ignore[no-untyped-call]


async def delivered(watcher: KeyValue.KeyWatcher) -> int:
    """How many entries the broker has sent to a watcher."""
    assert watcher._sub is not None
    position = (await watcher._sub.consumer_info()).delivered
    return position.consumer_seq if position is not None else 0
