"""The kind `batch`: a file of requests, answered line by line."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from shared.contracts.jobs.spec import JobSpec
from shared.contracts.keys import Action

__all__ = ["Endpoint", "BatchSpec"]


class Endpoint(StrEnum):
    """What each line of a batch is a request to."""

    QUERY = "/v1/query"
    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    EMBEDDINGS = "/v1/embeddings"


class BatchSpec(JobSpec):
    """Answer every line of a JSONL file on the batch lane; results come as JSONL, in any order, by `custom_id`.

    `input` names an artifact. Lines are OpenAI's: {"custom_id", "method", "url", "body"}; a line without a `url` is a
    body for `endpoint`.
    """

    required_action = Action.QUERY
    step_outputs = {
        "total": "number",
        "completed": "number",
        "failed": "number",
        "output_file": "text",
        "error_file": "text",
    }

    kind: Literal["batch"] = "batch"
    input: str
    endpoint: Endpoint = Endpoint.QUERY
    concurrency: int = Field(16, ge=1, le=256)
