"""What is looked for in an answer before it is sent."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from shared.contracts.wire import Wire
from shared.personal_data import PersonalData

__all__ = ["Moderation"]


class Moderation(Wire):
    """Personal data to `remove`, and a `model` of the repository that judges each sentence.

    The model gets the sentence as `input`. The answer ends before a sentence for which the tensor `output` holds one of
    the texts `stops`, or a number `above` this one. Without an answer of the model in `seconds` it ends too, unless
    `lenient`. At most `hold_back` characters are kept from the reader meanwhile.
    """

    model_config = ConfigDict(extra="forbid")

    remove: tuple[PersonalData, ...] = ()
    model: str = ""
    input: str = "text"
    output: str = "label"
    stops: tuple[str, ...] = ()
    above: float | None = None
    seconds: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 2.0
    lenient: bool = False
    hold_back: Annotated[int, Field(ge=20, le=20_000)] = 1000

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not self.remove and not self.model:
            raise ValueError("name what to `remove`, or a `model`")
        if self.model and not self.stops and self.above is None:
            raise ValueError("a `model` needs `stops` or `above`: which of its outputs end the answer")
        if not self.model and (self.stops or self.above is not None):
            raise ValueError("`stops` and `above` need a `model`")
        return self
