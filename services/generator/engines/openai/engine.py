"""The engine: prompts to requests, responses to deltas."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import checkpoint

from services.generator.engines.base import EngineName, Finish, FinishReason, Item, Prepared, Prompt
from services.generator.engines.openai.chunks import Chunk, read_chat, read_completion
from services.generator.engines.openai.config import OpenAIConfig
from services.generator.engines.openai.errors import UpstreamError, explain, failed, retry_delay
from services.generator.engines.openai.requests import chat_request, completion_request
from services.generator.prompting.tokens import Tokens, load_tokens
from shared.contracts.envelope import Message
from shared.contracts.events import Delivered, Usage
from shared.contracts.generation import ContextReport, Mode
from shared.service.imports import uncollected

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Model

    from shared.prompting.builder import PromptBuilder

__all__ = ["OpenAIEngine"]

log = logging.getLogger(__name__)

_T = TypeVar("_T")

CONNECT_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 1.0
ANSWER_TOKENS: Final = 1024
"""What an answer from sources may have if it sets no limit of its own."""

WINDOW: Final = 8192
"""The context window of a server that does not tell its own."""

ESTIMATED_SHARE: Final = 0.75
"""Of the window, what is used where tokens are estimated."""

LONG_PROMPT: Final = 8_000
"""Characters of passages from which on a prompt is built off the event loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Material:
    """A prompt as messages, or as the text of a completion; and the limit of what is written."""

    messages: tuple[Message, ...] = ()
    limit: int | None = None


class OpenAIEngine:
    """Streams from the server over reused connections; a caller that stops closes its HTTP stream at once.

    A request that fails before its first delta is sent again, up to `max_retries` times, after the time that the
    server asks for or with exponential backoff and jitter; one that the server refuses, or does not answer in time,
    is not. Usage is what the server reports; from a server that does not, about 4 characters of the prompt and one
    delta of the answer count as a token. A problem carries the server's status as `upstream_status`, never the key.
    """

    name = EngineName.OPENAI.value
    adapters = ()

    def __init__(self, config: OpenAIConfig) -> None:
        self._config = config
        self._places = anyio.Semaphore(config.room)
        self._client: AsyncOpenAI | None = None
        self._tokens = Tokens(count=len)
        self._builder: PromptBuilder | None = None
        self._window = config.window
        self.model = config.model
        self.room = config.room
        self.resumes = config.resumes

    async def start(self) -> None:
        """Ask the server for its models, which shows a wrong address or key before the first question does.

        A server without that endpoint is taken on trust when the configuration names a model.
        """
        with uncollected():
            from openai import AsyncOpenAI, Timeout

            from shared.prompting.builder import PromptBuilder

        config = self._config
        self._client = AsyncOpenAI(
            base_url=config.base_url,
            api_key=config.api_key.get_secret_value() or "none",
            # Silence is measured per delta, not per byte: comments that keep a connection alive are none.
            timeout=Timeout(None, connect=CONNECT_SECONDS),
            max_retries=0,
        )
        try:
            self._tokens = await anyio.to_thread.run_sync(load_tokens, config.tokenizer)
            await self._meet(self._client)
            self._builder = PromptBuilder(
                config.templates, count=self._tokens.count, window=self._window, special=self._tokens.special
            )
        except UpstreamError as error:
            await self.close()
            raise error.problem from None
        except ValueError as error:
            await self.close()
            raise failed(f"SLUICE_OPENAI_TOKENIZER: {error}") from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with anyio.CancelScope(shield=True):
                await client.close()

    async def prepare(self, prompt: Prompt) -> Prepared:
        builder = self._builder
        if builder is None:
            raise RuntimeError("prepare was called before start")
        params = prompt.params
        if params.mode is Mode.ANSWER:
            # Where tokens are estimated, a prompt that is refused for its length would be worse.
            spare = 0 if self._tokens.exact else round((1 - ESTIMATED_SHARE) * self._window)
            wanted = params.max_tokens or ANSWER_TOKENS
            reserve = min(wanted, (self._window - spare) // 2)
            long = sum(len(passage.text) for passage in prompt.passages) > LONG_PROMPT
            make = partial(builder.build, prompt, reserve=reserve + spare)
            built = await anyio.to_thread.run_sync(make) if long else make()
            limit = min(wanted, max(reserve, self._window - spare - built.context.prompt_tokens))
            return Prepared(
                prompt=prompt, context=built.context, material=_Material(messages=built.messages, limit=limit)
            )
        if self._tokens.exact:
            context = builder.build(prompt, reserve=1).context
        else:
            texts = [prompt.question] if params.mode is Mode.COMPLETION else [m.content or "" for m in prompt.messages]
            context = ContextReport(window=self._window, prompt_tokens=sum(map(self._tokens.count, texts)))
        return Prepared(
            prompt=prompt, context=context, material=_Material(messages=prompt.messages, limit=params.max_tokens)
        )

    async def generate(self, prepared: Prepared, after: Delivered | None = None) -> AsyncGenerator[Item, None]:
        given = after.text if after is not None else ""
        written = self._tokens.count(given)
        reason: FinishReason | None = None
        usage: Usage | None = None
        deltas = 0
        limit = prepared.material.limit
        if given and limit is not None and written >= limit:
            yield Finish(FinishReason.LENGTH, self._whole(prepared, None, written, 0))
            return
        request = self._request(prepared, given, limit if limit is None else limit - written)
        async with self._places, aclosing(self._tried(prepared.prompt.params.mode, request)) as chunks:
            async for chunk in chunks:
                usage = chunk.usage or usage
                reason = chunk.reason or reason
                if chunk.delta is not None:
                    deltas += 1
                    await checkpoint()  # chunks that came together must not keep a cancel waiting
                    yield chunk.delta
        assert reason is not None
        yield Finish(reason, self._whole(prepared, usage, written, deltas))

    def _whole(self, prepared: Prepared, usage: Usage | None, given: int, deltas: int) -> Usage:
        """The usage of the whole answer: to the server, what was given already is a part of the prompt."""
        if usage is None:
            return Usage(prompt_tokens=prepared.context.prompt_tokens, completion_tokens=given + deltas)
        return usage.model_copy(
            update={
                "prompt_tokens": max(0, usage.prompt_tokens - given),
                "completion_tokens": usage.completion_tokens + given,
            }
        )

    def _request(self, prepared: Prepared, given: str, limit: int | None) -> dict[str, Any]:
        params = prepared.prompt.params
        if params.mode is Mode.COMPLETION:
            return completion_request(params, prepared.prompt.question, model=self.model, limit=limit, after=given)
        messages, field = prepared.material.messages, self._config.limit_field
        return chat_request(params, messages, model=self.model, limit=limit, limit_field=field, after=given)

    async def _tried(self, mode: Mode, request: dict[str, Any]) -> AsyncGenerator[Chunk, None]:
        """The chunks of one response; the last has a reason. Repeats the request until a first chunk comes."""
        for tries in count(1):
            begun = False
            try:
                async with aclosing(self._once(mode, request)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
            except UpstreamError as error:
                if begun or not error.retryable or tries > self._config.max_retries:
                    raise error.problem from None
                delay = retry_delay(error, tries)
                log.info("retrying the model server", extra={"after": delay, "reason": error.problem.detail})
            else:
                return
            await anyio.sleep(delay)

    async def _once(self, mode: Mode, request: dict[str, Any]) -> AsyncGenerator[Chunk, None]:
        if self._client is None:
            raise RuntimeError("generate was called before start or after close")
        plain = mode is Mode.COMPLETION
        create = self._client.completions.create if plain else self._client.chat.completions.create
        read: Callable[[Any], Chunk] = read_completion if plain else read_chat
        limit = self._config.first_token
        by = anyio.current_time() + limit
        with self._translated():
            stream = await _in_time(create(**request), by, limit)
            try:
                ended = False
                while (raw := await _in_time(anext(stream, None), by, limit)) is not None:
                    chunk = read(raw)
                    ended = ended or chunk.reason is not None
                    if chunk != Chunk():
                        yield chunk
                        limit = self._config.silence
                        by = anyio.current_time() + limit
            finally:
                # Shielded: a cancelled caller must still hang up, or the server would write on for nobody.
                with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                    await stream.close()
        if not ended:
            raise UpstreamError(failed("The model server ended the answer early."), retryable=True)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Whatever the client raises becomes an UpstreamError; the original is not chained, as it may quote the key."""
        import openai

        try:
            yield
        except openai.OpenAIError as error:
            raise explain(error, self._config.api_key.get_secret_value()) from None
        except (ValueError, TypeError, AttributeError, LookupError):
            # A chunk that is no JSON, or not of the API's shape.
            raise UpstreamError(failed("The model server sent something that is not the OpenAI API.")) from None

    async def _meet(self, client: "AsyncOpenAI") -> None:
        """Learn the server's model and window."""
        from openai import NotFoundError

        served: list[Model] = []
        limit = self._config.first_token
        with self._translated():
            try:
                served = await _in_time(_listed(client), anyio.current_time() + limit, limit)
            except NotFoundError:
                if not self._config.model:
                    raise
        if not self._config.model and not served:
            raise failed("The model server lists no model; name one.")
        self.model = self._config.model or served[0].id
        mine = next((model for model in served if model.id == self.model), None)
        if served and mine is None:
            log.warning("the model server does not list %r; it lists %s", self.model, [m.id for m in served[:5]])
        reported = getattr(mine, "max_model_len", None)
        self._window = self._config.window or (reported if isinstance(reported, int) and reported > 0 else WINDOW)


async def _listed(client: "AsyncOpenAI") -> "list[Model]":
    return [model async for model in client.models.list()]


async def _in_time(work: Awaitable[_T], by: float, limit: float) -> _T:
    """The result of `work`, if it comes by that time of the event loop; `limit` is the seconds to name if not."""
    with anyio.move_on_after(max(0.0, by - anyio.current_time())):
        return await work
    raise UpstreamError(failed(f"The model server was silent for {limit:g} seconds."))
