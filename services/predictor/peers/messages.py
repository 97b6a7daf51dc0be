"""What predictors tell each other."""

import hashlib
from typing import Final

from shared.contracts.envelope import Lane
from shared.contracts.inference import Call
from shared.contracts.problems import ProblemDetails
from shared.contracts.tensors import InferenceOutcome
from shared.contracts.wire import Wire

__all__ = ["LoadedModels", "PeerAnswer", "PeerCall", "call_subject", "loaded_subject", "short_name"]

BYTES: Final = 8


class LoadedModels(Wire):
    """The models that a predictor has in memory, or loads now, by their short names. One that is `leaving` takes no
    more calls."""

    predictor: str
    models: frozenset[str] = frozenset()
    leaving: bool = False


class PeerCall(Wire):
    """An inference for a predictor that has the model, whose version is named. `deadline` is in Unix seconds."""

    query_id: str
    tenant: str
    lane: Lane
    deadline: float
    call: Call


class PeerAnswer(Wire):
    """The outcome, or the problem that the inference ended with; neither where the predictor does not take the call."""

    outcome: InferenceOutcome | None = None
    problem: ProblemDetails | None = None


def loaded_subject(variant: str) -> str:
    """Where predictors of a variant tell what they have."""
    return f"control.predictor.loaded.{variant}"


def call_subject(predictor: str) -> str:
    """Where one predictor takes calls of others."""
    return f"control.predictor.call.{predictor}"


def short_name(model: str, version: str) -> str:
    """Of one length, so that thousands fit into a message. Two models that share one cost a call that is not taken."""
    return hashlib.blake2b(f"{model}\0{version}".encode(), digest_size=BYTES).hexdigest()
