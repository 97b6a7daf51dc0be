"""Who else has which model in memory."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.predictor.peers.messages import LoadedModels, short_name

__all__ = ["LOST_SECONDS", "PeerDirectory"]

LOST_SECONDS: Final = 3.0
"""A predictor that has told nothing for so long is gone."""


@dataclass(frozen=True, slots=True)
class _Peer:
    told: LoadedModels
    at: float


class PeerDirectory:
    """What the others told last. `name` is this predictor's own."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock = clock
        self._peers: dict[str, _Peer] = {}

    def hear(self, told: LoadedModels) -> None:
        now = self._clock()
        self._peers = {name: peer for name, peer in self._peers.items() if now - peer.at < LOST_SECONDS}
        if told.predictor != self.name:
            self._peers[told.predictor] = _Peer(told, now)

    def forget(self, predictor: str) -> None:
        """Nobody listens there any more."""
        self._peers.pop(predictor, None)

    def is_alive(self, predictor: str) -> bool:
        """Whether it has told something lately, if only that it leaves."""
        peer = self._peers.get(predictor)
        return peer is not None and self._clock() - peer.at < LOST_SECONDS

    def holder(self, model: str, version: str) -> str | None:
        """A predictor that has the model and takes calls; of several, any."""
        holders = self._holders(model, version)
        return random.choice(holders) if holders else None  # noqa: S311

    def is_spare(self, model: str, version: str) -> bool:
        """Whether a copy in this predictor's memory is one too many: of all that have the model the first by name keeps
        it, so that no two drop it for each other's sake."""
        return any(name < self.name for name in self._holders(model, version))

    def _holders(self, model: str, version: str) -> list[str]:
        wanted = short_name(model, version)
        return [
            name
            for name, peer in self._peers.items()
            if wanted in peer.told.models and not peer.told.leaving and self.is_alive(name)
        ]
