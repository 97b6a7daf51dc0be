"""The API's schemas: what the gateway promises, and what the client reads."""

from datetime import UTC, datetime
from typing import Annotated

import pytest
from pydantic import TypeAdapter

from sluice.api.base import Schema, Sent, Timestamp, closed_set


class Thing(Schema):
    state: Annotated[str, closed_set("new", "old")] = ""
    made_at: Sent[Timestamp] = None
    gone_at: Timestamp | None = None


def test_what_is_written_is_described_as_always_there() -> None:
    described = TypeAdapter(Thing).json_schema(mode="serialization")
    assert described["required"] == ["state", "made_at", "gone_at"]
    assert "additionalProperties" not in described
    members = {name: {k: v for k, v in m.items() if k != "title"} for name, m in described["properties"].items()}
    assert members == {
        "state": {"type": "string", "enum": ["new", "old"]},
        "made_at": {"type": "number"},
        "gone_at": {"anyOf": [{"type": "number"}, {"type": "null"}]},
    }


def test_a_reader_takes_less_and_more_than_is_described() -> None:
    read = Thing.model_validate({"state": "borrowed", "colour": "blue"})
    assert (read.state, read.made_at) == ("borrowed", None)
    assert read.model_extra == {"colour": "blue"}


@pytest.mark.parametrize("moment", [0.0, 1_800_000_000.0, 1_764_389_648.25])
def test_times_are_unix_seconds_in_json_and_datetimes_in_python(moment: float) -> None:
    read = Thing(made_at=moment, gone_at=None)  # type: ignore[arg-type]
    assert read.made_at == datetime.fromtimestamp(moment, UTC)
    assert read.model_dump(mode="json")["made_at"] == moment
    assert read.model_dump()["made_at"] == read.made_at
