"""How KEDA 2.20 reads a length, written down from the behaviour of its scalers `nats-jetstream` and `metrics-api`.

Each raises `Unknown` where KEDA's scaler returns an error, after which the ScaledObject's `fallback` counts.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import urlopen

__all__ = ["JetStreamScaler", "Unknown", "metrics_api"]

SECONDS: Final = 3.0
"""KEDA_HTTP_DEFAULT_TIMEOUT."""

Page = dict[str, Any]
Ask = Callable[[str], Page]


class Unknown(Exception):  # noqa: N818  (an answer)
    """The scaler reports an error instead of a number."""


@dataclass(slots=True)
class JetStreamScaler:
    """One trigger of the type `nats-jetstream`. `nodes` are the monitoring ports of the broker's nodes by name, `named`
    tells which of them a route leads to: in a cluster the first part of its name says it.

    What is found is kept between calls, as in KEDA: the stream, and where the consumer's leader is.
    """

    nodes: dict[str, Ask]
    account: str
    stream: str
    consumer: str
    named: Callable[[str], str] = lambda route: route.partition(".")[0]
    _found: Page = field(default_factory=dict)
    _known_leader: str = ""
    _leader: Ask | None = None

    def length(self, first: str) -> int:
        """The length, where the headless Service resolves to the node `first`. Raises Unknown, and OSError where a node
        cannot be reached."""
        known = self._known_leader
        page = (self._leader or self.nodes[first])(self._path)
        consumer = self._take(page)
        if known and consumer is None:
            self._known_leader, self._leader = "", None
            raise Unknown("stream not found")
        if (consumer is None or known != self._known_leader) and page.get("meta_cluster", {}).get(
            "cluster_size", 0
        ) > 1:
            self._find_leader(first)
        return self._lag()

    def told(self, node: str) -> Page:
        """What one node says of the consumer. Raises Unknown."""
        consumer = self._consumer(self.nodes[node](self._path))
        if consumer is None:
            raise Unknown("consumer not found")
        return consumer

    @property
    def _path(self) -> str:
        return f"/jsz?acc={self.account}&config=true&consumers=true"

    def _find_leader(self, first: str) -> None:
        varz = self.nodes[first]("/varz")
        assert not varz.get("connect_urls"), "the manifests let no node tell its address"
        for route in varz["cluster"]["urls"]:
            name = self.named(route)
            page = self.nodes[name](self._path)
            consumer = self._consumer(page)
            if consumer is not None and consumer["cluster"]["leader"] == name:
                self._take(page)
                self._leader = self.nodes[name]
                return
        raise Unknown(f"leader node not found for consumer {self.consumer}")

    def _take(self, page: Page) -> Page | None:
        for stream in self._streams(page):
            if stream["name"] == self.stream:
                self._found = stream
        consumer = self._consumer(page)
        if consumer is not None:
            self._known_leader = consumer.get("cluster", {}).get("leader", "")
        return consumer

    def _streams(self, page: Page) -> list[Page]:
        accounts = [found for found in page.get("account_details") or () if found["name"] == self.account]
        return [found for account in accounts for found in account.get("stream_detail") or ()]

    def _consumer(self, page: Page) -> Page | None:
        streams = [found for found in self._streams(page) if found["name"] == self.stream]
        consumers = [found for stream in streams for found in stream.get("consumer_detail") or ()]
        return next((found for found in consumers if found["name"] == self.consumer), None)

    def _lag(self) -> int:
        for consumer in self._found.get("consumer_detail") or ():
            if consumer["name"] == self.consumer:
                return int(consumer["num_pending"]) + int(consumer["num_ack_pending"])
        return int(self._found.get("state", {}).get("last_seq", 0))


def metrics_api(url: str, location: str) -> float:
    """One trigger of the type `metrics-api`, of the format JSON. Raises Unknown, and OSError."""
    try:
        with urlopen(url, timeout=SECONDS) as response:
            value = json.load(response)
    except HTTPError as error:
        raise Unknown(f"api returned {error.code}") from error
    for part in location.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unknown(f"valueLocation {location} must point to a numeric value")
    return float(value)
