"""vLLM's errors as ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from vllm.exceptions import VLLMClientError
from vllm.v1.engine.exceptions import EngineDeadError

from services.generator.engines.base import EngineLostError
from shared.contracts.problems import Problem, ProblemType

__all__ = ["translated"]


@contextmanager
def translated() -> Iterator[None]:
    """What the request is to blame for becomes Problem INVALID_REQUEST, the end of the engine EngineLostError."""
    try:
        yield
    except EngineDeadError as error:
        raise EngineLostError("the vLLM engine has died") from error
    except (VLLMClientError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise Problem(ProblemType.INVALID_REQUEST, f"vLLM does not take this request: {reason}") from None
