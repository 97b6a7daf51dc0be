"""Any server that speaks the OpenAI chat API: vLLM, SGLang, llama.cpp, Ollama, TGI, a hosted one."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import anyio
from anyio.lowlevel import checkpoint
from pydantic import SecretStr

from services.generator.engines.base import (
    EngineName,
    Finish,
    FinishReason,
    Item,
    Prepared,
    Prompt,
    TextDelta,
)
from services.generator.prompt import PromptBuilder, Templates
from services.generator.tokens import approximate_tokens
from shared.problems import Problem, ProblemType
from shared.reply import Delivered, Usage

if TYPE_CHECKING:
    from openai import AsyncOpenAI, AsyncStream
    from openai.types.chat import ChatCompletionChunk

__all__ = ["OpenAIConfig", "OpenAIEngine"]

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
CLOSE_SECONDS = 1.0
LONGEST_MESSAGE = 300  # characters of what the server said about an error


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIConfig:
    """Where the server is and how to ask it."""

    base_url: str = "http://127.0.0.1:8000/v1"
    model: str = ""  # empty: the first that the server lists
    api_key: SecretStr = field(default_factory=lambda: SecretStr(""))
    timeout: float = 60.0  # seconds of silence from the server, before and between deltas
    max_retries: int = 2  # before the first delta, never after it
    room: int = 32  # answers at once; the server's own batching works on these
    context_tokens: int = 6_000  # about, for instructions, question and passages
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"


class OpenAIEngine:
    """Streams from the server over reused connections; a caller that stops closes its HTTP stream at once.

    Usage is what the server reports; from a server that does not, about 4 characters of the prompt and one delta of
    the answer count as a token. A problem carries the server's status as `upstream_status`, never the key.
    """

    name = EngineName.OPENAI.value
    resumes = False
    adapters = ()

    def __init__(self, config: OpenAIConfig) -> None:
        self._config = config
        self._places = anyio.Semaphore(config.room)
        self._client: AsyncOpenAI | None = None
        self._builder = PromptBuilder(Templates(), count=approximate_tokens, window=config.context_tokens)
        self.model = config.model
        self.room = config.room

    async def start(self) -> None:
        """Ask the server for its models, which shows a wrong address or key before the first question does.

        A server without that endpoint is taken on trust when the configuration names a model.
        """
        from openai import AsyncOpenAI, Timeout

        config = self._config
        self._client = AsyncOpenAI(
            base_url=config.base_url,
            api_key=config.api_key.get_secret_value() or "none",
            timeout=Timeout(config.timeout, connect=CONNECT_SECONDS),
            max_retries=config.max_retries,
        )
        try:
            async with self._problems():
                self.model = config.model or await self._first_model(self._client)
                if config.model:
                    await self._check(self._client)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with anyio.CancelScope(shield=True):
                await client.close()

    async def prepare(self, prompt: Prompt) -> Prepared:
        built = self._builder.build(prompt, reserve=0)
        return Prepared(prompt=prompt, context=built.context, material=built)

    async def generate(self, prepared: Prepared, after: Delivered | None = None) -> AsyncGenerator[Item, None]:  # noqa: ARG002
        built = prepared.material
        request = self._request(prepared.prompt, [{"role": m.role, "content": m.content} for m in built.messages])
        reason: FinishReason | None = None
        usage: Usage | None = None
        deltas = 0
        async with self._places, self._problems(), self._stream(request) as stream:
            async for chunk in stream:
                if chunk.usage is not None:
                    usage = Usage(
                        prompt_tokens=chunk.usage.prompt_tokens, completion_tokens=chunk.usage.completion_tokens
                    )
                for choice in chunk.choices[:1]:
                    if choice.delta.content:
                        deltas += 1
                        await checkpoint()  # chunks that came together must not keep a cancel waiting
                        yield TextDelta(text=choice.delta.content)
                    reason = _reason(choice.finish_reason) or reason
        if reason is None:
            raise _failed("The model server ended the answer early.")
        if not deltas:
            raise _failed("The model server finished without an answer.")
        yield Finish(reason, usage or Usage(prompt_tokens=built.context.prompt_tokens, completion_tokens=deltas))

    def _request(self, prompt: Prompt, messages: list[dict[str, str]]) -> dict[str, Any]:
        params = prompt.params
        request: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            self._config.limit_field: params.max_tokens or 512,
        }
        chosen = {"temperature": params.temperature, "seed": params.seed, "stop": list(params.stop) or None}
        return request | {name: value for name, value in chosen.items() if value is not None}

    @asynccontextmanager
    async def _stream(self, request: dict[str, Any]) -> "AsyncIterator[AsyncStream[ChatCompletionChunk]]":
        if self._client is None:
            raise RuntimeError("generate was called before start or after close")
        stream: AsyncStream[ChatCompletionChunk] = await self._client.chat.completions.create(**request)
        try:
            yield stream
        finally:
            # Shielded: a cancelled caller must still hang up, or the server would write on for nobody.
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await stream.close()

    @asynccontextmanager
    async def _problems(self) -> AsyncIterator[None]:
        """Whatever the client raises becomes a problem; the original is not chained, since it may quote the key."""
        import openai

        try:
            yield
        except openai.APIStatusError as error:
            raise _failed(
                f"The model server answered {error.status_code}: {self._safe(error.message)}",
                upstream_status=error.status_code,
            ) from None
        except openai.APITimeoutError:
            raise _failed(f"The model server was silent for {self._config.timeout:g} seconds.") from None
        except openai.APIConnectionError as error:
            cause = type(error.__cause__).__name__ if error.__cause__ else "no connection"
            raise _failed(f"The connection to the model server failed ({cause}).") from None
        except openai.OpenAIError as error:
            raise _failed(f"The model server reported an error: {self._safe(str(error))}") from None
        except ValueError:  # a chunk that is no JSON, or not of the API's shape
            raise _failed("The model server sent something that is not the OpenAI API.") from None

    async def _first_model(self, client: "AsyncOpenAI") -> str:
        async for model in client.models.list():
            return model.id
        raise _failed("The model server lists no model; name one.")

    async def _check(self, client: "AsyncOpenAI") -> None:
        from openai import NotFoundError

        try:
            served = [model.id async for model in client.models.list()]
        except NotFoundError:
            return
        if self.model not in served:
            log.warning("the model server does not list %r; it lists %s", self.model, served[:5])

    def _safe(self, message: str) -> str:
        key = self._config.api_key.get_secret_value()
        message = " ".join(message.split())[:LONGEST_MESSAGE]
        return message.replace(key, "***") if key else message


def _reason(reason: str | None) -> FinishReason | None:
    if reason is None:
        return None
    if reason == "content_filter":
        raise _failed("The model server's content filter stopped the answer.")
    return FinishReason.LENGTH if reason == "length" else FinishReason.STOP


def _failed(detail: str, **extras: Any) -> Problem:
    return Problem(ProblemType.ENGINE_FAILED, detail, **extras)
