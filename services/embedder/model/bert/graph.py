"""The graph of a BERT encoder, made of OpenVINO's operations.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", NAACL 2019; the
normalisation comes after each sum. Names of weights are those of transformers' `BertModel`.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.embedder.model import openvino
from services.embedder.model.bert.checkpoint import BertCheckpoint, UnsupportedModelError
from services.embedder.model.bert.weights import MappedWeights

__all__ = ["build_graph"]

MASKED: Final = np.float32(-1e9)
"""Added to the logit of a padding token, whose weight is then 0 in every number format."""


def build_graph(checkpoint: BertCheckpoint, weights: MappedWeights) -> Any:
    """An `openvino.Model` from `input_ids` and `attention_mask` to the last hidden state, for any rows x tokens.

    It refers to the memory of `weights`. Raises UnsupportedModelError where a weight is missing.
    """
    if checkpoint.width % checkpoint.heads:
        raise UnsupportedModelError(f"{checkpoint.heads} heads do not divide a width of {checkpoint.width}")
    return _Graph(checkpoint, weights).build()


class _Graph:
    def __init__(self, checkpoint: BertCheckpoint, weights: MappedWeights) -> None:
        self._openvino = openvino.import_package()
        self._ops = self._openvino.opset13
        self._checkpoint = checkpoint
        self._weights = weights
        self._width = checkpoint.width

    def build(self) -> Any:
        ops = self._ops
        ids, mask = (ops.parameter([-1, -1], np.int64, name) for name in ("input_ids", "attention_mask"))
        padding = ops.subtract(self._constant(np.float32(1)), ops.convert(ops.unsqueeze(mask, self._ints(1, 2)), "f32"))
        bias = ops.multiply(padding, self._constant(MASKED))
        hidden = self._embeddings(ids)
        for number in range(self._checkpoint.layers):
            hidden = self._layer(hidden, bias, f"encoder.layer.{number}.")
        return self._openvino.Model([ops.result(hidden)], [ids, mask], "bert")

    def _embeddings(self, ids: Any) -> Any:
        ops, weights, width = self._ops, self._weights, self._width
        words = ops.gather(
            self._constant(weights.tensor("embeddings.word_embeddings.weight", -1, width)), ids, self._ints(0)
        )
        # Every token is of the first segment.
        segment = weights.tensor("embeddings.token_type_embeddings.weight", -1, width)[0]
        places = weights.tensor("embeddings.position_embeddings.weight", -1, width) + segment
        length = ops.gather(ops.shape_of(ids), self._ints(1), self._ints(0))
        used = ops.slice(self._constant(places), self._ints(0), length, self._ints(1), self._ints(0))
        return self._normalised(ops.add(words, used), "embeddings.LayerNorm")

    def _layer(self, hidden: Any, bias: Any, name: str) -> Any:
        ops = self._ops
        attended = self._attention(hidden, bias, f"{name}attention.self.")
        attended = self._linear(attended, f"{name}attention.output.dense")
        hidden = self._normalised(ops.add(attended, hidden), f"{name}attention.output.LayerNorm")
        inner = ops.gelu(self._linear(hidden, f"{name}intermediate.dense"), "ERF")
        return self._normalised(ops.add(self._linear(inner, f"{name}output.dense"), hidden), f"{name}output.LayerNorm")

    def _attention(self, hidden: Any, bias: Any, name: str) -> Any:
        ops, heads = self._ops, self._checkpoint.heads
        split = self._ints(0, 0, heads, self._width // heads)  # 0: as in the input
        order = self._ints(0, 2, 1, 3)
        query, key, value = (
            ops.transpose(ops.reshape(self._linear(hidden, name + part), split, special_zero=True), order)
            for part in ("query", "key", "value")
        )
        found = ops.transpose(ops.scaled_dot_product_attention(query, key, value, bias), order)
        return ops.reshape(found, self._ints(0, 0, self._width), special_zero=True)

    def _linear(self, values: Any, name: str) -> Any:
        weight = self._weights.tensor(f"{name}.weight", -1, -1)
        bias = self._weights.tensor(f"{name}.bias", weight.shape[0])
        made = self._ops.matmul(values, self._constant(weight), transpose_a=False, transpose_b=True)
        return self._ops.add(made, self._constant(bias))

    def _normalised(self, values: Any, name: str) -> Any:
        ops = self._ops
        scale, shift = (self._weights.tensor(f"{name}.{part}", self._width) for part in ("weight", "bias"))
        unit = ops.mvn(values, self._ints(-1), True, self._checkpoint.epsilon, "inside_sqrt")
        return ops.add(ops.multiply(unit, self._constant(scale)), self._constant(shift))

    def _constant(self, values: "npt.NDArray[np.float32] | np.float32") -> Any:
        return self._ops.constant(values, shared_memory=isinstance(values, np.ndarray))

    def _ints(self, *values: int) -> Any:
        return self._ops.constant(np.array(values, dtype=np.int64))
