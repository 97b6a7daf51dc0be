from typing import Any

import pytest
from pydantic import ValidationError

from shared.contracts.jobs import DatasetSpec, decode_spec


def _spec(**members: Any) -> DatasetSpec:
    spec = decode_spec({"kind": "dataset", "collection": "docs", **members})
    assert isinstance(spec, DatasetSpec)
    return spec


def test_a_spec_travels_as_json_and_comes_back() -> None:
    spec = _spec(since="2026-11-01", questions=["a/b.jsonl"])
    assert decode_spec(spec.model_dump_json().encode()) == spec
    assert decode_spec(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"feedback": False}, "needs 'questions'"),
        ({"feedback": False, "questions": ["a/b"], "days": 3}, "about feedback"),
        ({"since": "2026-11-01", "days": 3}, "not both"),
        ({"since": "yesterday"}, "date"),
        ({"questions": ["a/b", "a/b"]}, "named once"),
        ({"range_min": 50}, "less than"),
        ({"test_share": 0}, "0.05"),
    ],
)
def test_what_does_not_go_together_is_refused(members: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        _spec(**members)
