"""Options of generation that every API takes."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from services.gateway.http.problems import invalid_request
from shared.contracts.generation import GenerateParams, OutputFormat, Unsupported

__all__ = ["Generation", "Sampling"]


def _as_list(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


class Sampling(BaseModel):
    """How the next token is chosen and when to stop. An option that is left out has the model's own default.

    The bounds are those of `GenerateParams`.
    """

    max_tokens: int | None = Field(None, description="Tokens of the answer at most.")
    min_tokens: int | None = Field(None, description="Tokens of the answer at least.")
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = Field(None, description="Choose among so many of the likeliest tokens.")
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    stop: Annotated[
        list[Annotated[str, Field(min_length=1)]] | None,
        BeforeValidator(_as_list),
        Field(None, description="Text before which the answer ends: one or a list."),
    ] = None
    seed: int | None = None
    ignore_eos: bool | None = Field(None, description="Go on after the model's own end, up to `max_tokens`.")

    def params(self, *at: str, **more: Any) -> GenerateParams:
        """With `more`, the parameters of the stop `generate`.

        Raises Problem INVALID_REQUEST, which names members as those of the request's member `at`.
        """
        chosen = {name: value for name in FIELDS if (value := getattr(self, name)) is not None}
        try:
            return GenerateParams.model_validate({**chosen, **more})
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            raise invalid_request([{**mistake, "loc": (*at, *mistake["loc"])} for mistake in found]) from None


FIELDS: Final = tuple(Sampling.model_fields)


class Generation(Sampling):
    """What `/v1/query` takes; unknown members are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: OutputFormat | None = Field(None, description="What the answer must look like.")
    decline: bool | None = Field(
        None, description="Whether a question that the passages cannot answer is declined; the server's choice if null."
    )
    unsupported: Unsupported | None = Field(
        None, description="Sentences that no source supports: mark, drop or retry; null: the generator's setting."
    )

    def params_at(self, member: str) -> GenerateParams:
        """The parameters of the stop `generate`, from this member of a request. Raises Problem INVALID_REQUEST."""
        more = {"output": self.output, "unsupported": self.unsupported, "decline": self.decline}
        return self.params(member, **{name: value for name, value in more.items() if value is not None})
