"""Payloads as CloudEvents."""

import pytest

from shared.contracts.payloads import InferencePayload, PayloadKind

PAYLOAD = InferencePayload(
    id="1",
    kind=PayloadKind.RESPONSE,
    tenant="acme",
    model="iris.v2",
    version="3",
    at=1_800_000_000.25,
    reader='user:älice "%\r\n x',
    key="k1",
    size=12,
    truncated=True,
    data=b'{"outputs":[]}',
)


def test_the_attributes_are_those_of_kserve_and_of_cloudevents() -> None:
    headers = PAYLOAD.headers()
    assert headers["ce-specversion"] == "1.0"
    assert headers["ce-type"] == "org.kubeflow.serving.inference.response"
    assert (headers["ce-inferenceservicename"], headers["ce-namespace"], headers["ce-component"]) == (
        "iris.v2",
        "acme",
        "predictor",
    )
    assert headers["ce-time"] == "2027-01-15T08:00:00.250000+00:00"
    assert headers["content-type"] == "application/json"
    assert headers["ce-reader"] == "user:%C3%A4lice%20%22%25%0D%0A%20x"
    assert all(name.removeprefix("ce-").isalnum() for name in headers if name != "content-type")


def test_what_is_written_is_read_again() -> None:
    assert InferencePayload.read(PAYLOAD.headers(), PAYLOAD.data) == PAYLOAD
    least = InferencePayload(id="1", kind=PayloadKind.REQUEST, tenant="t", model="m", at=0.0)
    assert "ce-reader" not in least.headers()
    assert InferencePayload.read(least.headers(), b"{}") == least


@pytest.mark.parametrize("headers", [{}, {**PAYLOAD.headers(), "ce-type": "io.sluice.job.ingest"}])
def test_another_event_is_no_payload(headers: dict[str, str]) -> None:
    with pytest.raises((KeyError, ValueError)):
        InferencePayload.read(headers, b"{}")
