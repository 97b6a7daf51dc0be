"""Nobody is told a regular expression for what they may write in the console."""

from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from services.gateway.http.problems import invalid_request
from services.gateway.keys.service import NewKey
from shared.contracts.collections import VersionName
from shared.contracts.jobs.kinds.command import CommandSpec
from shared.contracts.jobs.kinds.pipeline import PipelineSpec
from shared.contracts.principals import ListedPrincipal


class Allowed(BaseModel):
    allowed: tuple[ListedPrincipal, ...]


def detail_of(kind: Any, value: object) -> str:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    return invalid_request(caught.value.errors()).details.detail


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (Allowed, {"allowed": ["somebody"]}, "user:alice"),
        (VersionName, "New Version", "a-z, 0-9"),
        (PipelineSpec, {"kind": "pipeline", "name": "My Pipeline", "steps": {"First": {}}}, "at most 63"),
        (PipelineSpec, {"kind": "pipeline", "name": "mine", "steps": {"First": {}}}, "at most 41"),
        (CommandSpec, {"kind": "command", "command": ["a"], "env": {"1": ""}}, "no digit"),
        (CommandSpec, {"kind": "command", "command": ["a"], "resources": {"memory": "much"}}, "16Gi"),
        (NewKey, {"name": "Zoë"}, "without accents"),
        (NewKey, {"name": "zoe", "tenant": "my tenant"}, "at most 64"),
        (NewKey, {"name": "zoe", "collections": ["My Docs"]}, "wildcards"),
        (NewKey, {"name": "zoe", "principals": ["somebody"]}, "every document"),
    ],
)
def test_what_may_be_written_is_said_in_words(kind: Any, value: object, words: str) -> None:
    detail = detail_of(kind, value)
    assert words in detail
    assert "pattern" not in detail
