"""The kind `generate_questions`: a set of questions about a collection, written by a language model."""

from typing import Annotated, Literal

from pydantic import Field

from shared.contracts.collections import VersionName
from shared.contracts.jobs.spec import JobSpec
from shared.contracts.keys import Action

__all__ = ["GenerateQuestionsSpec"]


class GenerateQuestionsSpec(JobSpec):
    """Have a language model write questions about passages of a collection, for `evaluate` and `tune`.

    `model` is a name that /v1/chat/completions knows. Passages are drawn by `seed`, from as many documents as there
    are; what the model writes and is no question is left out, and another passage is drawn. The set is the artifact
    questions.jsonl of the job: of each question the document, the passage, and that it is synthetic.
    """

    required_action = Action.QUERY
    step_outputs = {"questions": "number", "left_out": "number", "documents": "number", "version": "text"}

    kind: Literal["generate_questions"] = "generate_questions"
    model: Annotated[str, Field(min_length=1, max_length=200)]
    collection: str = "default"
    version: VersionName | None = None
    count: int = Field(50, ge=1, le=5_000)
    seed: int = Field(0, ge=0, lt=2**32)
    concurrency: int = Field(4, ge=1, le=64)
