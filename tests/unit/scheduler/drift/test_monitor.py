"""From payloads to gauges."""

import json
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY

from services.scheduler.drift.features import MOST_FEATURES, rows_of
from services.scheduler.drift.monitor import MOST_MODELS, DriftMonitors
from shared.contracts.payloads import InferencePayload, PayloadKind

RANDOM = np.random.default_rng(7)


def tensor(name: str, data: list[Any], *shape: int) -> dict[str, Any]:
    return {"name": name, "shape": list(shape or (len(data),)), "data": data}


def test_a_feature_is_a_column_of_a_tensor() -> None:
    rows = rows_of([tensor("x", [1, 2, 3, 4], 2, 2), tensor("text", ["a", "abc"]), tensor("flag", [True, False])])
    assert rows is not None
    assert rows.names == ("x[0]", "x[1]", "text", "flag")
    assert rows.values.tolist() == [[1, 2, 1, 1], [3, 4, 3, 0]]


def test_what_cannot_be_compared_is_left_out() -> None:
    assert rows_of([]) is None
    assert (
        rows_of([{"name": "x", "shape": [2]}, tensor("y", [], 0), tensor("z", [1], 1, 2), tensor("w", [1], 1, 0)])
        is None
    )
    rows = rows_of([tensor("x", [1, 2, 3], 2, 2), tensor("y", [1, 2], 2), tensor("z", [None, 2], 1, 2)])
    assert rows is not None
    assert rows.names == ("x[0]", "x[1]", "z[0]", "z[1]")  # one row is whole, and y has two
    assert np.isnan(rows.values[0]).tolist() == [False, False, True, False]
    wide = rows_of([tensor("x", list(range(200)), 2, 100)])
    assert wide is not None
    assert (len(wide.names), wide.values.shape, wide.values[1][0]) == (MOST_FEATURES, (2, MOST_FEATURES), 100)


def payload(model: str, rows: np.ndarray, kind: PayloadKind = PayloadKind.REQUEST) -> InferencePayload:
    member = "inputs" if kind is PayloadKind.REQUEST else "outputs"
    data = json.dumps({member: [tensor("x", rows.ravel().tolist(), *rows.shape)]}).encode()
    return InferencePayload(id="1", kind=kind, tenant="t", model=model, at=0.0, data=data)


def gauge(name: str, model: str, kind: str = "request", **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"model": model, "kind": kind, **labels})


def test_later_rows_are_compared_with_the_first() -> None:
    monitors = DriftMonitors(reference_rows=1000, window_rows=500)
    monitors.add(payload("moving", RANDOM.normal(0, 1, (100, 2))) for _ in range(14))
    assert gauge("sluice_drift_stability_index", "moving", feature="x[0]") is None
    monitors.add([payload("moving", RANDOM.normal(0, 1, (100, 2)))])
    quiet = gauge("sluice_drift_stability_index", "moving", feature="x[0]")
    assert quiet is not None
    assert quiet < 0.15
    monitors.add(payload("moving", RANDOM.normal((0, 3), 1, (100, 2))) for _ in range(5))
    assert (gauge("sluice_drift_stability_index", "moving", feature="x[0]") or 0) < 0.15
    assert (gauge("sluice_drift_stability_index", "moving", feature="x[1]") or 0) > 0.25
    assert (gauge("sluice_drift_ks_distance", "moving", feature="x[1]") or 0) > 0.5
    assert (gauge("sluice_drift_outliers", "moving") or 0) > 0.1
    used = {use: gauge("sluice_drift_rows_total", "moving", use=use) for use in ("reference", "window")}
    assert used == {"reference": 1000, "window": 1000}


def test_requests_and_responses_are_apart_and_other_features_are_counted() -> None:
    monitors = DriftMonitors(reference_rows=50, window_rows=50)
    for kind in PayloadKind:
        monitors.add([payload("both", RANDOM.normal(0, 1, (100, 1)), kind)])
        assert gauge("sluice_drift_stability_index", "both", kind.value, feature="x") is not None
    monitors.add([payload("both", np.ones((3, 2))), payload("both", np.ones((2, 1)))])
    assert gauge("sluice_drift_rows_total", "both", use="other") == 3
    for data in (b"{}", b"[]", b"no JSON", b'{"inputs": 5}', b'{"inputs": [5]}'):
        monitors.add([InferencePayload(id="1", kind=PayloadKind.REQUEST, tenant="t", model="both", at=0.0, data=data)])


def test_the_features_are_those_of_most_payloads_whoever_came_first() -> None:
    monitors = DriftMonitors(reference_rows=50, window_rows=50)
    monitors.add([payload("bent", np.ones((200, 3)))])
    assert gauge("sluice_drift_rows_total", "bent", use="reference") == 50
    monitors.add(payload("bent", RANDOM.normal(0, 1, (100, 1))) for _ in range(3))
    assert gauge("sluice_drift_stability_index", "bent", feature="x") is not None
    assert gauge("sluice_drift_stability_index", "bent", feature="x[0]") is None
    monitors.add(payload("bent", np.ones((1, 4 + number))) for number in range(20))
    monitors.add([payload("bent", RANDOM.normal(9, 1, (50, 1)))])
    assert (gauge("sluice_drift_stability_index", "bent", feature="x") or 0) > 0.25


def test_the_models_are_bounded() -> None:
    monitors = DriftMonitors(reference_rows=50, window_rows=50)
    before = gauge("sluice_drift_rows_total", "other", use="other") or 0
    monitors.add(payload(f"m{number}", np.ones((1, 1))) for number in range(MOST_MODELS + 5))
    assert gauge("sluice_drift_rows_total", "other", use="other") == before + 5


@pytest.mark.parametrize("rows", [1, 7, 300])
def test_the_size_of_payloads_makes_no_difference(rows: int) -> None:
    values = np.random.default_rng(3).normal(0, 1, (2100, 1))
    monitors = DriftMonitors(reference_rows=1000, window_rows=500)
    monitors.add(payload(f"size-{rows}", values[start : start + rows]) for start in range(0, 2100, rows))
    expected = DriftMonitors(reference_rows=1000, window_rows=500)
    expected.add([payload("size-all", values)])
    found = gauge("sluice_drift_ks_distance", f"size-{rows}", feature="x")
    assert found == gauge("sluice_drift_ks_distance", "size-all", feature="x")
