"""Calls of the stage `predict`, whose workers are the predictors.

The stop's params are a `Call`, and the answer is an `InferenceOutcome` in the envelope's results.
"""

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from shared.contracts.envelope import Query, Stop
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import Datatype, InferRequest, Tensor, pack_bytes
from shared.contracts.wire import Wire

__all__ = [
    "BUILT_IN_MODELS",
    "MODEL_NAME",
    "PREDICT",
    "UNLOAD",
    "Call",
    "ModelName",
    "ModelVersion",
    "Unload",
    "Verb",
]

PREDICT: Final = "predict"
"""The stage."""

UNLOAD: Final = "control.model.unload"
"""Every predictor listens here: it drops a model from its memory."""

BUILT_IN_MODELS: Final = ("embed", "rerank", "generate")
"""Models that are stages of their own. No model of a repository may have such a name."""

MODEL_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"

ModelName = Annotated[str, Field(pattern=MODEL_NAME)]
ModelVersion = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Verb(StrEnum):
    INFER = "infer"
    METADATA = "metadata"
    READY = "ready"
    INDEX = "index"
    LOAD = "load"


class Call(Wire):
    """What is asked of the stage. Without a `version` it is the model's newest that can be loaded.

    `infer` and `load` load the model; `metadata` does where only the model itself knows its tensors. `index` lists all
    models, or that of the name. `texts` are inputs by name that a query has with it, for a model within a pipeline: its
    question, or the text of each passage.
    """

    verb: Verb = Verb.INFER
    model: str = ""
    version: str = ""
    request: InferRequest = InferRequest()
    texts: dict[str, Literal["question", "passages"]] = {}

    def stop(self, variant: str = "default") -> Stop:
        return Stop(stage=PREDICT, variant=variant, params=self.model_dump(mode="json", exclude_defaults=True))

    @classmethod
    def of(cls, query: Query) -> "Call":
        """The call that a query to the stage is. Raises Problem INVALID_REQUEST."""
        try:
            call = cls.model_validate(query.stop.params)
        except ValidationError as error:
            detail = f"Parameters of the stage '{PREDICT}': {error}"
            raise Problem(ProblemType.INVALID_REQUEST, detail) from None
        if not call.texts:
            return call
        inputs = (*call.request.inputs, *(_texts(name, what, query) for name, what in call.texts.items()))
        return call.model_copy(update={"request": call.request.model_copy(update={"inputs": inputs})})


def _texts(name: str, what: str, query: Query) -> Tensor:
    texts = [query.question] if what == "question" else [passage.text for passage in query.passages]
    data = pack_bytes(text.encode() for text in texts)
    return Tensor(name=name, datatype=Datatype.BYTES, shape=(len(texts),), data=data)


class Unload(Wire):
    """Without a `version`, every version of the model."""

    model: str
    version: str = ""
