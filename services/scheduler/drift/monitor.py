"""What is known of the payloads of each model: a reference, and a window of the latest rows."""

import math
from collections.abc import Iterable
from typing import Final

import numpy as np
from prometheus_client import Counter, Gauge
from pydantic_core import from_json

from services.scheduler.drift.features import Matrix, Rows, rows_of
from services.scheduler.drift.statistics import Reference
from shared.contracts.payloads import InferencePayload, PayloadKind

__all__ = ["DriftMonitors"]

LABELS: Final = ("model", "kind")

STABILITY = Gauge(
    "sluice_drift_stability_index",
    "Population stability index of the latest rows against the reference: below 0.1 alike, above 0.25 different.",
    (*LABELS, "feature"),
)
DISTANCE = Gauge(
    "sluice_drift_ks_distance",
    "Kolmogorov-Smirnov distance of the latest rows from the reference, 0 to 1.",
    (*LABELS, "feature"),
)
OUTLIERS = Gauge(
    "sluice_drift_outliers", "Share of the latest rows that are farther out than 999 in 1,000 of the reference.", LABELS
)
ROWS = Counter(
    "sluice_drift_rows_total",
    "Rows of logged payloads by what they were used for: reference, window, or other, as they have other features or "
    "there are too many models.",
    (*LABELS, "use"),
)

MOST_MODELS: Final = 50
"""Models that one process watches, requests and responses apart; later ones are left out."""

MOST_SAMPLES: Final = 4
"""Sets of features of a model that are kept apart; that of the fewest payloads makes room."""

MOST_PARTS: Final = 1000
"""Parts of a window before they become one."""

OTHER: Final = "other"


class DriftMonitors:
    """Every model's monitor. It is not to be used by several threads at once."""

    def __init__(self, reference_rows: int, window_rows: int) -> None:
        self._reference_rows = reference_rows
        self._window_rows = window_rows
        self._monitors: dict[tuple[str, str], _Monitor] = {}

    def add(self, payloads: Iterable[InferencePayload]) -> None:
        """Take payloads, oldest first, and show what has changed."""
        changed: dict[tuple[str, str], _Monitor] = {}
        for payload in payloads:
            rows = _rows(payload)
            if rows is None:
                continue
            place = (payload.model, payload.kind.value)
            monitor = self._monitors.get(place)
            if monitor is None:
                if len(self._monitors) >= MOST_MODELS:
                    ROWS.labels(OTHER, payload.kind.value, OTHER).inc(len(rows.values))
                    continue
                monitor = self._monitors[place] = _Monitor(place, self._reference_rows, self._window_rows)
            monitor.add(rows)
            changed[place] = monitor
        for monitor in changed.values():
            monitor.show()


class _Monitor:
    """The features of a model are those of most of its payloads: anyone may send a request with other tensors, which
    the model refuses, and be the first."""

    def __init__(self, place: tuple[str, str], reference_rows: int, window_rows: int) -> None:
        self._place = place
        self._sizes = reference_rows, window_rows
        self._samples: dict[tuple[str, ...], _Sample] = {}
        self._shown: tuple[str, ...] = ()

    def add(self, rows: Rows) -> None:
        if rows.names not in self._samples:
            self._make_room()
            self._samples[rows.names] = _Sample(*self._sizes)
        sample = self._samples[rows.names]
        first, later = sample.add(rows.values)
        uses = {"reference": first, "window": later} if rows.names == self._names else {OTHER: first + later}
        for use, count in uses.items():
            if count:
                ROWS.labels(*self._place, use).inc(count)

    def show(self) -> None:
        names = self._names
        if names != self._shown:
            for name in self._shown:
                STABILITY.remove(*self._place, name)
                DISTANCE.remove(*self._place, name)
            self._shown = names
        if (compared := self._samples[names].compared()) is None:
            return
        reference, latest = compared
        psi, ks = reference.stability(latest), reference.kolmogorov_smirnov(latest)
        for name, index, distance in zip(names, psi, ks, strict=True):
            if not math.isnan(index):
                STABILITY.labels(*self._place, name).set(index)
                DISTANCE.labels(*self._place, name).set(distance)
        if not math.isnan(share := reference.outliers(latest)):
            OUTLIERS.labels(*self._place).set(share)

    @property
    def _names(self) -> tuple[str, ...]:
        """Of as many payloads, those that came first."""
        return max(self._samples, key=lambda names: self._samples[names].payloads)

    def _make_room(self) -> None:
        if len(self._samples) >= MOST_SAMPLES:
            del self._samples[min(self._samples, key=lambda names: self._samples[names].payloads)]


class _Sample:
    """The rows of payloads that have the same features."""

    def __init__(self, reference_rows: int, window_rows: int) -> None:
        self.payloads = 0
        self._reference: Reference | None = None
        self._first: list[Matrix] = []
        self._latest: list[Matrix] = []
        self._missing = reference_rows
        self._window_rows = window_rows

    def add(self, values: Matrix) -> tuple[int, int]:
        """Returns how many of the rows are for the reference, and how many for the window."""
        self.payloads += 1
        taken = values[: self._missing]
        if len(taken):
            self._first.append(taken)
            self._missing -= len(taken)
        if self._reference is None and not self._missing:
            self._reference = Reference(np.concatenate(self._first))
            self._first.clear()
        later = values[len(taken) :]
        if len(later):
            self._latest.append(later)
        if len(self._latest) > MOST_PARTS:
            self._join()
        return len(taken), len(later)

    def compared(self) -> tuple[Reference, Matrix] | None:
        """The reference and the latest rows. None before the window is full: few rows differ from any reference."""
        if self._reference is None or not self._latest:
            return None
        latest = self._join()
        return None if len(latest) < self._window_rows else (self._reference, latest)

    def _join(self) -> Matrix:
        latest = np.concatenate(self._latest)[-self._window_rows :]
        self._latest = [latest]
        return latest


def _rows(payload: InferencePayload) -> Rows | None:
    try:
        told = from_json(payload.data)
    except ValueError:
        return None
    member = "inputs" if payload.kind is PayloadKind.REQUEST else "outputs"
    tensors = told.get(member) if isinstance(told, dict) else None
    return rows_of([tensor for tensor in tensors if isinstance(tensor, dict)]) if isinstance(tensors, list) else None
