"""Conditions in GJSON as those of pipelines: what they say, and when they hold."""

from typing import Any

import pytest

from services.gateway.inference.elements import pack_elements
from shared.contracts.envelope import Query, Stop
from shared.contracts.graphs.conditions import check_condition, holds
from shared.contracts.results import Results
from shared.contracts.tensors import Datatype, InferenceOutcome, InferResponse, Tensor, pack_bytes
from sluice.cli.gjson_conditions import ConditionError, Source, condition_of


def tensor(name: str, data: list[Any]) -> Tensor:
    texts = bool(data) and isinstance(data[0], str)
    packed = pack_bytes(x.encode() for x in data) if texts else pack_elements(data, Datatype.FP64, (len(data),))
    return Tensor(name=name, datatype=Datatype.BYTES if texts else Datatype.FP64, shape=(len(data),), data=packed)


def query(metadata: dict[str, Any] | None = None, outputs: dict[str, list[Any]] | None = None) -> Query:
    tensors = tuple(tensor(name, data) for name, data in (outputs or {}).items())
    outcome = InferenceOutcome(response=InferResponse(model="m", outputs=tensors))
    return Query(
        id="1",
        tenant="t",
        asked_at=0.0,
        deadline=1.0,
        reply="r",
        slip=(Stop(stage="s"),),
        metadata=metadata or {},
        results=Results(inference=outcome),
    )


@pytest.mark.parametrize(
    ("path", "metadata", "expected"),
    [
        ("[@this].#(source==client)", {"source": "client"}, True),
        ("[@this].#(source==client)", {"source": "server"}, False),
        ("[@this].#(source==client)", {}, False),
        ('[@this].#(source=="cl\\"ient")', {"source": 'cl"ient'}, True),
        ("instances.#(modelId=1)", {"modelId": 1}, True),
        ('instances.#(modelId=="1")', {"modelId": "1"}, True),
        ("instances.#(intval>10)", {"intval": 11}, True),
        ("instances.#(intval>10)", {"intval": 10}, False),
        ("instances.#(intval<=-1.5e1)", {"intval": -15}, True),
        ("instances.#(strval%*red-server*)", {"strval": "the red-server here"}, True),
        ("instances.#(strval%*red-server*)", {"strval": "blue"}, False),
        ('instances.#(strval!%"*red*")', {"strval": "blue"}, True),
        ("instances.#(strval%red)", {"strval": "red"}, True),
        ("instances.#(strval!%red)", {"strval": "red"}, False),
        ("[@this].#(urgent==true)", {"urgent": True}, True),
        ("[@this].#(a!=b)", {"a": "c"}, True),
        ("[@this].#(a!=b)", {}, False),
        ("[@this].#(class==x)", {"class": "x"}, True),
        ("[@this].#(key)", {"key": 0}, True),
        ("key", {}, False),
        ("key-of-it", {"key-of-it": "x"}, True),
    ],
)
def test_on_a_request_it_looks_at_the_metadata(path: str, metadata: dict[str, Any], expected: bool) -> None:
    condition = condition_of(path, Source.REQUEST)
    check_condition(condition)
    assert holds(condition, query(metadata)) is expected


@pytest.mark.parametrize(
    ("path", "outputs", "expected"),
    [
        ('predictions.#(label=="dog")', {"label": ["cat", "dog"]}, True),
        ('predictions.#(label=="dog")', {"label": ["cat"]}, False),
        ('predictions.#(label=="dog")', {}, False),
        ('outputs.#(name=="label").data.#(=="dog")', {"label": ["dog"]}, True),
        ("predictions.#(score>0.5)", {"score": [0.1, 0.9]}, True),
        ("predictions.#(score>=0.5)", {"score": [0.1]}, False),
        ("predictions.#(score>0.5)", {"score": []}, False),
        ("predictions.#(score<0.5)", {"score": [0.1, 0.9]}, True),
        ("predictions.#(score==1)", {"score": [0, 1]}, True),
        ("predictions.#(score!=1)", {"score": [1, 1]}, False),
        ("predictions.#(score!=1)", {"score": [1, 2]}, True),
        ("predictions.#(score)", {"score": [1]}, True),
    ],
)
def test_on_a_response_it_looks_at_any_element(path: str, outputs: dict[str, list[Any]], expected: bool) -> None:
    condition = condition_of(path, Source.RESPONSE)
    check_condition(condition)
    assert holds(condition, query(outputs=outputs)) is expected


@pytest.mark.parametrize(
    ("path", "source", "said"),
    [
        ("instances.0.intval", Source.REQUEST, "only a name, or a query"),
        ("instances.#.intval", Source.REQUEST, "only a name, or a query"),
        ("instances.#(a.b==1)", Source.REQUEST, "only a name, or a query"),
        ("instances.#(a==1)#", Source.REQUEST, "what follows the query (#)"),
        ("instances.#(a==1).b", Source.REQUEST, "what follows the query (.b)"),
        ('predictions.#(=="dog")', Source.RESPONSE, "name the output of the model"),
        ("instances.#(a==)", Source.REQUEST, "nothing is no value"),
        ('instances.#(a=="\\x")', Source.REQUEST, "is no text of JSON"),
        ("instances.#(a%x*)", Source.REQUEST, "of patterns only *text*"),
        ("predictions.#(a%*x*)", Source.RESPONSE, "% of texts has no counterpart"),
        ("predictions.#(a!=x)", Source.RESPONSE, "!= of texts has no counterpart"),
        ('inputs.#(name=="x").data.#(>1)', Source.REQUEST, "no tensors"),
        ('outputs.#(name=="x").data.#(y>1)', Source.RESPONSE, "no members"),
        ("predictions.#(a==1)", Source.EARLIER, "only the last is known here"),
        ("", Source.REQUEST, "only a name, or a query"),
        ("a|@reverse", Source.REQUEST, "only a name, or a query"),
    ],
)
def test_what_has_no_counterpart_is_refused_with_the_reason(path: str, source: Source, said: str) -> None:
    with pytest.raises(ConditionError) as caught:
        condition_of(path, source)
    assert said in str(caught.value)
