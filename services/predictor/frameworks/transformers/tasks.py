"""The tasks that a model of transformers is served for: how each makes tensors of texts."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from services.predictor.frameworks.base import Array, Arrays, InvalidInputError, NotLoadableError, Signature, refusing
from services.predictor.frameworks.pytorch.tensors import release
from shared.contracts.tensors import Datatype, TensorSpec

__all__ = ["LABELS", "TASKS", "TEXT", "Task", "TaskOptions", "is_served", "task_of"]

TEXT: Final = "text"
LABELS: Final = "labels"

MOST_LABELS: Final = 100
"""Labels of one request of zero-shot classification: each text is computed once for each."""

BATCH: Final = 16
"""Texts that a pipeline computes together."""


class TaskOptions(BaseModel):
    """The parameters of the configuration. `top_k` results of each text, 0 for all; without it, as the task has it.
    `max_length` tokens of a text are read; `max_new_tokens` are written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = ""
    device: str = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    top_k: int | None = Field(None, ge=0)
    max_length: int | None = Field(None, ge=2)
    max_new_tokens: int = Field(128, ge=1, le=4096)
    aggregation: Literal["none", "simple", "first", "average", "max"] = "simple"
    multi_label: bool = False
    hypothesis: str = "This example is {}."
    pooling: Literal["mean", "cls"] = "mean"


class Task(ABC):
    """A model for one task. `texts` in `run` are one at least."""

    inputs: tuple[TensorSpec, ...] = (TensorSpec(name=TEXT, datatype=Datatype.BYTES, shape=(-1,)),)
    rows = True

    def __init__(self, model: Any, tokenizer: Any, options: TaskOptions) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._options = options

    @property
    @abstractmethod
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    @abstractmethod
    def run(self, texts: list[str], labels: list[str]) -> Arrays:
        """All outputs. Raises InvalidInputError."""

    @property
    def signature(self) -> Signature:
        return Signature(inputs=self.inputs, outputs=self.outputs, rows=self.rows)

    def close(self) -> None:
        release(self._model)

    def _encoded(self, texts: list[str]) -> Any:
        return self._tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(self._model.device)


class _Ranked(Task):
    """A task that gives each text its best results, the best first: so many texts, and a score for each."""

    text_outputs: tuple[str, ...] = ("label",)

    @property
    @abstractmethod
    def count(self) -> int:
        """Results of each text."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        shape = (-1, self.count)
        texts = (TensorSpec(name=name, datatype=Datatype.BYTES, shape=shape) for name in self.text_outputs)
        return (*texts, TensorSpec(name="score", datatype=Datatype.FP32, shape=shape))

    def _arrays(self, results: Sequence[Sequence[Mapping[str, Any]]], keys: Sequence[str]) -> Arrays:
        made: dict[str, Array] = {
            name: _texts([[str(one[key]) for one in each] for each in results])
            for name, key in zip(self.text_outputs, keys, strict=True)
        }
        scores = [[one["score"] for one in each] for each in results]
        return {**made, "score": np.asarray(scores, np.float32)}


class TextClassification(_Ranked):
    def __init__(self, model: Any, tokenizer: Any, options: TaskOptions) -> None:
        super().__init__(model, tokenizer, options)
        self._pipeline = _pipeline("TextClassificationPipeline", model, tokenizer)

    @property
    def count(self) -> int:
        known = int(self._model.config.num_labels)
        wanted = 1 if self._options.top_k is None else self._options.top_k
        return min(wanted or known, known)

    def run(self, texts: list[str], labels: list[str]) -> Arrays:  # noqa: ARG002  (no task but one has labels)
        found = self._pipeline(texts, top_k=self.count, truncation=True, batch_size=BATCH)
        return self._arrays(found, ("label",))


class FillMask(_Ranked):
    """Each text has the tokenizer's mask token once."""

    text_outputs = ("token", "sequence")

    def __init__(self, model: Any, tokenizer: Any, options: TaskOptions) -> None:
        super().__init__(model, tokenizer, options)
        if not tokenizer.mask_token:
            raise NotLoadableError("its tokenizer has no mask token")
        self._pipeline = _pipeline("FillMaskPipeline", model, tokenizer)

    @property
    def count(self) -> int:
        known = int(self._model.config.vocab_size)
        wanted = 5 if self._options.top_k is None else self._options.top_k
        return min(wanted or known, known)

    def run(self, texts: list[str], labels: list[str]) -> Arrays:  # noqa: ARG002
        from transformers.pipelines.base import PipelineException

        mask = self._tokenizer.mask_token
        if wrong := next((text for text in texts if text.count(mask) != 1), None):
            raise InvalidInputError(f"a text has {mask} {wrong.count(mask)} times, not once: {wrong[:80]!r}")
        with refusing(PipelineException):  # the mask is beyond what is read of a text
            found = self._pipeline(texts, top_k=self.count, batch_size=BATCH, tokenizer_kwargs={"truncation": True})
        return self._arrays([found] if len(texts) == 1 else found, ("token_str", "sequence"))


class ZeroShotClassification(_Ranked):
    """All labels of the request for each text, the best first."""

    inputs = (*Task.inputs, TensorSpec(name=LABELS, datatype=Datatype.BYTES, shape=(-1,)))
    rows = False
    count = -1

    def __init__(self, model: Any, tokenizer: Any, options: TaskOptions) -> None:
        super().__init__(model, tokenizer, options)
        self._pipeline = _pipeline("ZeroShotClassificationPipeline", model, tokenizer)

    def run(self, texts: list[str], labels: list[str]) -> Arrays:
        if not 1 <= len(labels) <= MOST_LABELS:
            raise InvalidInputError(f"it takes 1 to {MOST_LABELS} labels, not {len(labels):,}")
        found = [
            self._pipeline(
                text,
                # A list: a label may have a comma.
                candidate_labels=labels,
                hypothesis_template=self._options.hypothesis,
                multi_label=self._options.multi_label,
                batch_size=BATCH,
            )
            for text in texts
        ]
        ranked = [
            [{"label": label, "score": score} for label, score in zip(each["labels"], each["scores"], strict=True)]
            for each in found
        ]
        return self._arrays(ranked, ("label",))


class TokenClassification(Task):
    outputs = (TensorSpec(name="entities", datatype=Datatype.BYTES, shape=(-1,)),)

    def __init__(self, model: Any, tokenizer: Any, options: TaskOptions) -> None:
        super().__init__(model, tokenizer, options)
        self._pipeline = _pipeline(
            "TokenClassificationPipeline", model, tokenizer, aggregation_strategy=options.aggregation
        )

    def run(self, texts: list[str], labels: list[str]) -> Arrays:  # noqa: ARG002
        found = self._pipeline(texts, batch_size=BATCH)
        return {"entities": _texts([json.dumps(list(map(_entity, each)), ensure_ascii=False) for each in found])}


class FeatureExtraction(Task):
    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        size = int(self._model.config.hidden_size)
        return (TensorSpec(name="embedding", datatype=Datatype.FP32, shape=(-1, size)),)

    def run(self, texts: list[str], labels: list[str]) -> Arrays:  # noqa: ARG002
        import torch

        encoded = self._encoded(texts)
        with torch.inference_mode():
            states = self._model(**encoded).last_hidden_state.float()
        if self._options.pooling == "cls":
            pooled = states[:, 0]
        else:
            mask = encoded["attention_mask"].unsqueeze(-1).to(states.dtype)
            pooled = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        return {"embedding": pooled.cpu().numpy()}


class TextToText(Task):
    outputs = (TensorSpec(name="generated_text", datatype=Datatype.BYTES, shape=(-1,)),)

    def run(self, texts: list[str], labels: list[str]) -> Arrays:  # noqa: ARG002
        import torch

        with torch.inference_mode():
            made = self._model.generate(**self._encoded(texts), max_new_tokens=self._options.max_new_tokens)
        return {"generated_text": _texts(self._tokenizer.batch_decode(made, skip_special_tokens=True))}


TASKS: Final[Mapping[str, tuple[str, Callable[[Any, Any, TaskOptions], Task]]]] = {
    "text-classification": ("AutoModelForSequenceClassification", TextClassification),
    "token-classification": ("AutoModelForTokenClassification", TokenClassification),
    "zero-shot-classification": ("AutoModelForSequenceClassification", ZeroShotClassification),
    "fill-mask": ("AutoModelForMaskedLM", FillMask),
    "feature-extraction": ("AutoModel", FeatureExtraction),
    "text2text-generation": ("AutoModelForSeq2SeqLM", TextToText),
}
"""By name: the class of transformers that loads the model, and ours."""

ALIASES: Final[Mapping[str, str]] = {
    "sentiment-analysis": "text-classification",
    "ner": "token-classification",
    "summarization": "text2text-generation",
    "translation": "text2text-generation",
}

ENDINGS: Final[Mapping[str, str]] = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForMaskedLM": "fill-mask",
    "ForConditionalGeneration": "text2text-generation",
    "Model": "feature-extraction",
}
"""The task of a model whose configuration names none, by its class."""


def is_served(task: str) -> bool:
    """Whether a task of this name is; also where none is named."""
    return ALIASES.get(task, task) in ("", *TASKS)


def task_of(named: str, config: Mapping[str, Any]) -> str:
    """Raises NotLoadableError for one that is not served, or that nothing says."""
    if named:
        task = ALIASES.get(named, named)
        if task not in TASKS:
            raise NotLoadableError(f"the task {named[:80]!r} is not served; there are {', '.join(TASKS)}")
        return task
    architectures = config.get("architectures") or [""]
    for ending, task in ENDINGS.items():
        if str(architectures[0]).endswith(ending):
            return task
    raise NotLoadableError(f"name its task: `parameters: {{task: …}}`, one of {', '.join(TASKS)}")


def _pipeline(kind: str, model: Any, tokenizer: Any, **more: object) -> Any:
    import transformers

    return getattr(transformers, kind)(model=model, tokenizer=tokenizer, device=model.device, **more)


def _entity(found: Mapping[str, Any]) -> dict[str, Any]:
    kind = found.get("entity_group") or found.get("entity")
    positions = {key: int(found[key]) for key in ("start", "end") if found.get(key) is not None}
    return {"entity": kind, "score": round(float(found["score"]), 6), "word": found["word"], **positions}


def _texts(texts: Sequence[Any]) -> Array:
    """Texts, or rows of as many, as an array of bytes."""
    shaped = np.asarray(texts, dtype=object)
    made = np.empty(shaped.shape, dtype=object)
    made.reshape(-1)[:] = [str(text).encode() for text in shaped.reshape(-1).tolist()]
    return made
