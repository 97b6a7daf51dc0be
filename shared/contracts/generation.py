"""How to write an answer: the parameters of the stage `generate`, as the gateway writes and the generator reads them.

Names and meanings are those of the OpenAI API where it has the parameter, and vLLM's for the rest.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, ValidationError, model_validator

from shared.contracts.models import OptionalModelName
from shared.contracts.moderation import Moderation
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.wire import Wire

__all__ = ["ContextReport", "GenerateParams", "Mode", "OutputFormat", "TokenLogprob", "ToolCallDelta", "Unsupported"]


class Mode(StrEnum):
    """What the engine is given to write from."""

    ANSWER = "answer"
    """The question and its passages, in the answer template, after the conversation so far. Citations are checked."""

    CHAT = "chat"
    """The conversation as it is: `query.messages`, in the model's own chat template."""

    COMPLETION = "completion"
    """Plain text to go on from: `query.question`, without any template."""


class Unsupported(StrEnum):
    """What becomes of sentences of an answer that its sources do not support."""

    MARK = "mark"
    """They are sent, and the end of the answer names them."""

    DROP = "drop"
    """They are not sent. Each sentence is checked before it is sent."""

    RETRY = "retry"
    """Where they are more than half of the answer, it is written once more. Nothing is sent before."""


class OutputFormat(Wire):
    """What the answer must look like; exactly one member is set."""

    model_config = ConfigDict(extra="forbid")

    json_schema: dict[str, JsonValue] | None = None
    json_object: Literal[True] | None = None
    regex: Annotated[str, Field(max_length=10_000)] | None = None
    choice: Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)] | None = None
    grammar: Annotated[str, Field(max_length=100_000)] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("set exactly one of json_schema, json_object, regex, choice and grammar")
        return self


class GenerateParams(Wire):
    """Parameters of the stop `generate`. None leaves the choice to the engine, that is to the model's own defaults, and
    `unsupported` to the generator's settings. `adapter` is one of the store of models, which writes the
    answer. `moderation` is looked for in an answer before it is sent.

    `tools` are function tools in OpenAI's shape; `tool_choice` is `auto`, `none`, `required` or the name of a
    function behind `function:`. `logprobs` is how many alternatives to report for each token, 0 for the token alone.
    """

    model_config = ConfigDict(extra="forbid")

    mode: Mode = Mode.ANSWER
    model: str | None = None
    adapter: OptionalModelName = ""
    max_tokens: int | None = Field(None, ge=1)
    min_tokens: int = Field(0, ge=0)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1)
    min_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, gt=0, le=2)
    stop: Annotated[tuple[str, ...], Field(max_length=16)] = ()
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    ignore_eos: bool = False
    logprobs: int | None = Field(None, ge=0, le=20)
    output: OutputFormat | None = None
    decline: bool | None = None
    unsupported: Unsupported | None = None
    moderation: Moderation | None = None
    tools: Annotated[tuple[dict[str, JsonValue], ...], Field(max_length=128)] = ()
    tool_choice: str = "auto"
    parallel_tool_calls: bool = True

    @property
    def constrained(self) -> bool:
        """Whether the answer follows a grammar from its first token, so that it can only be written from the start."""
        return self.output is not None or bool(self.tools)

    @classmethod
    def of(cls, params: dict[str, Any]) -> Self:
        """Members that a newer gateway adds are ignored. Raises Problem INVALID_REQUEST."""
        try:
            return cls.model_validate(params, extra="ignore")
        except ValidationError as error:
            found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
            raise Problem(ProblemType.INVALID_REQUEST, f"Parameters of the stage 'generate': {found}.") from None

    def encode(self) -> dict[str, JsonValue]:
        """As the parameters of a stop, without what is left to the engine."""
        made: dict[str, JsonValue] = self.model_dump(mode="json", exclude_defaults=True)
        return made


class ToolCallDelta(Wire):
    """A piece of a tool call. `id` and `name` come with the first piece of the call that has this `index`."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class TokenLogprob(Wire):
    """A token of the answer and how likely it was; `top` are the likeliest ones at its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class ContextReport(Wire):
    """What of the material fitted into the context window. Sources are named as in citations, counted from 1.

    `dropped` did not fit; of the `shortened` ones only their first sentences did; the `joined` ones are shown with the
    text around them; `dropped_turns` counts the oldest turns of the conversation that were left out. `window` and
    `prompt_tokens` are in tokens of the model; a window of 0 means that the engine has none.
    """

    window: int = 0
    prompt_tokens: int = 0
    dropped: tuple[int, ...] = ()
    shortened: tuple[int, ...] = ()
    joined: tuple[int, ...] = ()
    dropped_turns: int = 0
