"""Prompts in vLLM's form: tokens that fit into the window, and the parameters to go on from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import anyio.to_thread
from vllm import SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from services.generator.engines.base import Prepared, Prompt
from services.generator.engines.vllm.config import VLLMConfig
from services.generator.engines.vllm.errors import translated
from services.generator.engines.vllm.parsers import Parsers, Parsing
from services.generator.engines.vllm.renderer import Renderer
from services.generator.engines.vllm.sampling import sampling_params, structured
from services.generator.engines.vllm.tool_calls import CallReader, forced_schema, reader, tool_names
from shared.contracts.generation import ContextReport, GenerateParams, Mode, OutputFormat
from shared.contracts.problems import Problem, ProblemType
from shared.prompting.builder import Built, PromptBuilder

__all__ = ["RequestBuilder", "Request"]

FITTINGS: Final = 4
"""Times that a prompt is built smaller because its template took more tokens than were counted."""

LEAST_ANSWER: Final = 32
"""Tokens that an answer has at least, where the prompt would fit if nothing more were kept for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A prompt in vLLM's form. `sampling` has the limit for the whole answer; `calls` reads the calls it must be."""

    tokens: list[int]
    sampling: SamplingParams
    parsing: Parsing | None = None
    forced: bool = False

    def calls(self, params: GenerateParams) -> CallReader | None:
        return reader(params) if self.forced else None


class RequestBuilder:
    """Prepares prompts for one engine. `window` and all counts are in tokens of its model."""

    def __init__(self, llm: AsyncLLM, config: VLLMConfig, renderer: Renderer) -> None:
        self._vllm = llm.vllm_config
        self._tokenizer = llm.renderer.get_tokenizer()
        self._max_tokens = config.max_tokens
        self._renderer = renderer
        self._defaults: Mapping[str, Any] = self._vllm.model_config.get_diff_sampling_param()
        self._parsers = Parsers(
            self._tokenizer, self._vllm.model_config, tools=config.tool_parser, reasoning=config.reasoning_parser
        )
        self.window = int(self._vllm.model_config.max_model_len)
        self._builder = PromptBuilder(
            config.templates, count=renderer.count, window=self.window, special=renderer.special
        )

    async def __call__(self, prompt: Prompt) -> Prepared:
        """As `Engine.prepare` says."""
        params = prompt.params
        _check(params, self._parsers)
        tools = params.tools if params.tool_choice != "none" else ()
        messages: Sequence[Mapping[str, Any]] = [one.model_dump(exclude_none=True) for one in prompt.messages]
        wanted = params.max_tokens or self._max_tokens
        context = ContextReport()
        match params.mode:
            case Mode.ANSWER:
                tokens, messages, context = await self._fit(prompt, tools, reserve=min(wanted, self.window // 2))
            case Mode.CHAT:
                tokens = await self._renderer.chat(messages, tools)
            case Mode.COMPLETION:
                tokens = await self._renderer.plain(prompt.question)
        self._check_length(tokens)
        request = await self._request(params, tokens, messages, limit=min(wanted, self.window - len(tokens)))
        context = context.model_copy(update={"window": self.window, "prompt_tokens": len(tokens)})
        return Prepared(prompt=prompt, context=context, material=request)

    async def _fit(
        self, prompt: Prompt, tools: Sequence[Mapping[str, Any]], *, reserve: int
    ) -> tuple[list[int], Sequence[Mapping[str, Any]], ContextReport]:
        """The largest prompt that leaves `reserve` tokens of the window to the answer, or fewer if it must be."""
        built = await self._build(prompt, reserve)
        if built is None:
            reserve = min(reserve, LEAST_ANSWER)
            built = await self._build(prompt, reserve) or self._builder.build(prompt, reserve=reserve)
        extra = 0
        for _ in range(FITTINGS):
            messages = [one.model_dump(exclude_none=True) for one in built.messages]
            tokens = await self._renderer.chat(messages, tools)
            over = len(tokens) + reserve - self.window
            if over <= 0:
                break
            extra += over
            smaller = await self._build(prompt, reserve + extra)
            if smaller is None:
                break
            built = smaller
        return tokens, messages, built.context

    async def _build(self, prompt: Prompt, reserve: int) -> Built | None:
        """None where what cannot be left out does not fit."""
        try:
            return await anyio.to_thread.run_sync(partial(self._builder.build, prompt, reserve=reserve))
        except Problem as problem:
            if problem.kind is ProblemType.CONTEXT_EXCEEDED:
                return None
            raise

    def _check_length(self, tokens: Sequence[int]) -> None:
        if not tokens:
            raise Problem(ProblemType.INVALID_REQUEST, "The prompt is empty.")
        if len(tokens) >= self.window:
            raise Problem(
                ProblemType.CONTEXT_EXCEEDED,
                f"The prompt has {len(tokens):,} tokens; the model's window of {self.window:,} must also hold the "
                "answer. Send less, or use a model with a longer window.",
                prompt_tokens=len(tokens),
                window=self.window,
            )

    async def _request(
        self, params: GenerateParams, tokens: list[int], messages: Sequence[Mapping[str, Any]], *, limit: int
    ) -> Request:
        with translated():
            calls = forced_schema(params)
            grammar = structured(params.output if calls is None else OutputFormat(json_schema=calls))
            parsing = None
            if self._parsers.wanted(params):
                parsing = self._parsers.parsing(params, messages, tokens, grammar)
                grammar = parsing.request.structured_outputs
            sampling = sampling_params(
                params,
                max_tokens=limit,
                defaults=self._defaults,
                grammar=grammar,
                skip_special_tokens=parsing is None or bool(parsing.request.skip_special_tokens),
            )
            if grammar is not None:
                await anyio.to_thread.run_sync(self._verify, sampling)
        return Request(tokens=tokens, sampling=sampling, parsing=parsing, forced=calls is not None)

    def _verify(self, sampling: SamplingParams) -> None:
        """Raises vLLM's errors now, before the reader has been told anything. Compiles grammars."""
        config = self._vllm
        sampling.clone().verify(
            config.model_config, config.speculative_config, config.structured_outputs_config, self._tokenizer
        )


def _check(params: GenerateParams, parsers: Parsers) -> None:
    """Raises Problem INVALID_REQUEST for what cannot be done."""
    tool_names(params)
    if not params.tools:
        return
    if params.mode is Mode.COMPLETION:
        raise Problem(ProblemType.INVALID_REQUEST, "Tools need a conversation: they mean nothing in a completion.")
    if params.tool_choice == "auto" and not parsers.tools:
        raise Problem(
            ProblemType.INVALID_REQUEST,
            "tool_choice auto needs to know how this model writes its calls: start the generator with "
            "SLUICE_VLLM_TOOL_PARSER, or send tool_choice required, none or a function's name.",
        )
    if params.tool_choice not in ("auto", "none") and params.output is not None:
        raise Problem(ProblemType.INVALID_REQUEST, "An answer cannot both be a tool call and follow an output format.")
