"""What the scheduler, which runs batches, and the gateway, which shows them in OpenAI's form, agree on."""

from enum import StrEnum

__all__ = ["ERRORS", "EXPIRED", "OUTPUT", "Phase"]

OUTPUT = "output.jsonl"
"""The artifact of a batch that holds what succeeded, in the order of the input."""

ERRORS = "errors.jsonl"
"""The artifact of a batch that holds what failed, in the order of the input."""

EXPIRED = "batch_expired"
"""OpenAI's code for a request that was not answered in time."""


class Phase(StrEnum):
    """How far a running batch is: the message of its progress."""

    VALIDATING = "validating"
    IN_PROGRESS = "answering"
    FINALIZING = "finalizing"
