"""A call of a model as a step of a query's pipeline."""

from shared.contracts.envelope import Passage, Query, Stop
from shared.contracts.inference import Call
from shared.contracts.tensors import unpack_bytes


def test_a_step_gets_the_texts_of_its_query_as_inputs() -> None:
    passages = tuple(Passage(id=t, document_id="d", document="d", position=0, text=t) for t in ("eins", "zwei"))
    params = {"model": "m", "texts": {"q": "question", "p": "passages"}}
    stop = Stop(stage="predict", params=params)
    query = Query(id="q", asked_at=0, deadline=0, reply="r", slip=(stop,), question="Wie?", passages=passages)
    inputs = {tensor.name: tensor for tensor in Call.of(query).request.inputs}
    assert {name: list(unpack_bytes(tensor.data)) for name, tensor in inputs.items()} == {
        "q": [b"Wie?"],
        "p": [b"eins", b"zwei"],
    }
    assert [tensor.shape for tensor in inputs.values()] == [(1,), (2,)]
