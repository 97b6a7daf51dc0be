"""What tokens cost."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Price"]

MILLION: Final = 1_000_000

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Price(BaseModel):
    """What a million tokens of a model cost."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Amount
    completion: Amount = 0.0

    def of(self, *, prompt_tokens: int, completion_tokens: int) -> float:
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / MILLION
