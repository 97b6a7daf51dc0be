"""Which faults come, in which order: drawn from the seed and nothing else. Pure."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

__all__ = ["BROKER", "GENTLE", "LOAD", "SERVICE", "Kind", "Layout", "Round", "Fault", "rounds"]


class Kind(StrEnum):
    """A fault. Those with `broker-` strike nats-server, or one node of three."""

    KILL = "kill"
    TERM = "term"
    STOP = "stop"
    CUT = "cut"
    HOLE = "hole"
    DELAY = "delay"
    SKEW = "skew"
    BROKER_KILL = "broker-kill"
    BROKER_RESTART = "broker-restart"
    BROKER_STOP = "broker-stop"
    BROKER_CUT = "broker-cut"
    BROKER_POWER = "broker-power"
    BROKER_REPLACED = "broker-replaced"
    BROKER_VERSION = "broker-version"
    DISK_FULL = "disk-full"
    SLOW_READER = "slow-reader"
    FLOOD = "flood"
    DUPLICATES = "duplicates"
    POISON_QUERY = "poison-query"
    DEADLY_QUERY = "deadly-query"
    POISON_JOB = "poison-job"


SERVICE = (Kind.KILL, Kind.TERM, Kind.STOP, Kind.CUT, Kind.HOLE, Kind.DELAY, Kind.SKEW)
BROKER = (
    *(Kind.BROKER_KILL, Kind.BROKER_RESTART, Kind.BROKER_STOP, Kind.BROKER_CUT),
    *(Kind.BROKER_POWER, Kind.BROKER_REPLACED, Kind.BROKER_VERSION, Kind.DISK_FULL),
)
LOAD = (
    Kind.SLOW_READER,
    Kind.FLOOD,
    Kind.DUPLICATES,
    Kind.POISON_QUERY,
    Kind.DEADLY_QUERY,
    Kind.POISON_JOB,
)

GENTLE = frozenset({Kind.TERM, Kind.DELAY, *LOAD} - {Kind.DEADLY_QUERY})
"""Faults that no other query may suffer from: each is answered."""

SHORT, LONG = (0.3, 5.0), (12.0, 20.0)
"""Seconds that a fault lasts, and that one in eight of those lasts which can."""

LASTING = frozenset({Kind.STOP, Kind.HOLE, Kind.CUT})
SKEWS = (-90.0, -5.0, -1.0, 1.0, 5.0, 90.0)
DELAYS = (0.02, 0.1, 0.3)
PAUSES = (0.2, 2.0)
TOGETHER = 0.25
"""How often two faults come at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What there is to strike."""

    services: tuple[str, ...]
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: it begins, lasts `seconds`, and ends. `size` is the kind's own: seconds of skew or of delay."""

    kind: Kind
    target: str
    seconds: float
    size: float = 0.0

    def describe(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Faults that come at once, after a pause in which all was well."""

    number: int
    pause: float
    faults: tuple[Fault, ...]


def rounds(seed: int, kinds: Sequence[Kind], layout: Layout, *, longest: float = LONG[1]) -> Iterator[Round]:
    """Endless; the same for the same arguments. Kinds come in a new order each time all have come."""
    dice = random.Random(seed)
    deck: list[Kind] = []

    def draw() -> Kind:
        if not deck:
            deck.extend(dice.sample(list(kinds), len(kinds)))
        return deck.pop()

    number = 0
    while True:
        number += 1
        drawn = [draw()]
        if dice.random() < TOGETHER and len(kinds) > 1:
            second = draw()
            if second is not drawn[0] and not (second in BROKER and drawn[0] in BROKER):
                drawn.append(second)
        faults = tuple(_fault(dice, kind, layout, longest) for kind in drawn)
        yield Round(number=number, pause=dice.uniform(*PAUSES), faults=faults)


def _fault(dice: random.Random, kind: Kind, layout: Layout, longest: float) -> Fault:
    target = "clients"
    if kind in SERVICE:
        target = dice.choice(layout.services)
    elif kind in BROKER:
        target = dice.choice(layout.nodes)
    span = LONG if kind in LASTING and dice.random() < 1 / 8 else SHORT
    size = {Kind.SKEW: dice.choice(SKEWS), Kind.DELAY: dice.choice(DELAYS)}.get(kind, 0.0)
    return Fault(kind=kind, target=target, seconds=round(min(longest, dice.uniform(*span)), 3), size=size)
