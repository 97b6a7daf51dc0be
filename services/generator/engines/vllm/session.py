"""An engine that has started: what it is, and how it writes."""

import uuid
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import anyio
from vllm.inputs.engine import tokens_input
from vllm.lora.request import LoRARequest
from vllm.v1.engine.async_llm import AsyncLLM

from services.generator.engines.base import Finish, FinishReason, Item, Prepared, Prompt
from services.generator.engines.vllm.config import VLLMConfig
from services.generator.engines.vllm.errors import translated
from services.generator.engines.vllm.parsers import Reader
from services.generator.engines.vllm.renderer import Renderer
from services.generator.engines.vllm.requests import Request, RequestBuilder
from services.generator.engines.vllm.sampling import piece_of
from services.generator.engines.vllm.stop_strings import Piece, StopStringFilter
from shared.contracts.events import Delivered, Usage
from shared.contracts.problems import Problem, ProblemType

__all__ = ["Running"]

MOST_ADDED: Final = 2000
"""Adapters that are known by name; vLLM loads one again when it is asked for."""

LONGEST_REASON: Final = 500


class Running:
    """An engine with its processes, from its start to `stop`. The methods do what those of `Engine` promise."""

    def __init__(self, llm: AsyncLLM, config: VLLMConfig) -> None:
        self._llm = llm
        self._config = config
        template = config.chat_template.read_text() if config.chat_template else None
        self._renderer = Renderer(llm.renderer, chat_template=template)
        self._preparing = RequestBuilder(llm, config, self._renderer)
        self._adapters = {
            name: LoRARequest(name, number, path)
            for number, (name, path) in enumerate(config.adapters.items(), start=1)
        }
        self._last_adapter = len(self._adapters)

    @property
    def model(self) -> str:
        served = self._llm.vllm_config.model_config.served_model_name
        return str(served if isinstance(served, str) else served[0])

    @property
    def room(self) -> int:
        return int(self._llm.vllm_config.scheduler_config.max_num_seqs)

    @property
    def dead(self) -> bool:
        return bool(self._llm.errored)

    @property
    def unfinished(self) -> int:
        return int(self._llm.get_num_unfinished_requests())

    @property
    def facts(self) -> dict[str, Any]:
        """For the log: what came of the settings."""
        model, cache = self._llm.vllm_config.model_config, self._llm.vllm_config.cache_config
        return {
            "served_model": self.model,
            "window": self._preparing.window,
            "dtype": str(model.dtype).removeprefix("torch."),
            "quantization": model.quantization,
            "kv_cache_tokens": (cache.num_gpu_blocks or 0) * cache.block_size,
            "tool_parser": self._config.tool_parser or None,
        }

    async def load_adapters(self) -> None:
        """Load every adapter once, which shows now whether it fits the model. Raises Problem ENGINE_FAILED."""
        for name, adapter in self._adapters.items():
            try:
                await self._llm.add_lora(adapter)
            except Exception as error:
                detail = f"vLLM cannot load the adapter {name!r} from {adapter.lora_path}: {error}"
                raise Problem(ProblemType.ENGINE_FAILED, detail) from error

    async def add_adapter(self, name: str, folder: Path) -> None:
        """Raises Problem MODEL_UNAVAILABLE where it does not fit the model."""
        self._last_adapter += 1  # vLLM keeps what it has loaded under a number
        adapter = LoRARequest(name, self._last_adapter, str(folder))
        try:
            await self._llm.add_lora(adapter)
        except Exception as error:
            reason = " ".join(str(error).split())[:LONGEST_REASON]
            detail = f"The adapter '{name}' cannot be loaded. vLLM does not take it: {reason}"
            raise Problem(ProblemType.MODEL_UNAVAILABLE, detail) from error
        self._adapters[name] = adapter
        if len(self._adapters) > len(self._config.adapters) + MOST_ADDED:
            del self._adapters[next(name for name in self._adapters if name not in self._config.adapters)]

    def stop(self) -> None:
        """End the engine and its processes; blocks until they are gone."""
        self._llm.shutdown()

    async def prepare(self, prompt: Prompt) -> Prepared:
        return await self._preparing(prompt)

    async def generate(self, prepared: Prepared, after: Delivered | None = None) -> AsyncGenerator[Item, None]:
        request: Request = prepared.material
        params = prepared.prompt.params
        reading = Reader(request.parsing, request.calls(params))
        given: list[int] = []
        if after is not None and after.text:
            given = await self._renderer.continuation(request.tokens, after.text, after.tokens)
            reading.skip(Piece(after.text, tuple(given)))
        cutter = StopStringFilter(params.stop, min_tokens=params.min_tokens - len(given))
        written, cached, reason = len(given), 0, FinishReason.LENGTH
        async with aclosing(self._outputs(request, given, prepared.prompt.adapter)) as outputs:
            async for output in outputs:
                written += len(output.outputs[0].token_ids)
                cached = output.num_cached_tokens or cached
                ending = _reason(output)
                pieces = cutter.feed(piece_of(output.outputs[0], tops=params.logprobs or 0))
                if cutter.stopped:
                    ending = FinishReason.STOP
                if ending is not None:
                    pieces += cutter.flush()
                for delta in _deltas(reading, pieces, ended=ending is not None):
                    yield delta
                if ending is not None:
                    reason = ending
                    break
        if reading.called and reason is FinishReason.STOP:
            reason = FinishReason.TOOL_CALLS
        read = len(request.tokens)
        yield Finish(reason, Usage(prompt_tokens=read, completion_tokens=written, cached_tokens=min(cached, read)))

    async def _outputs(self, request: Request, given: Sequence[int], adapter: str) -> AsyncGenerator[Any, None]:
        """vLLM's outputs after the tokens that are given already. Left early, it ends the work in the engine."""
        sampling = request.sampling.clone()
        sampling.max_tokens -= len(given)
        sampling.min_tokens = max(0, sampling.min_tokens - len(given))
        if sampling.max_tokens <= 0:
            return
        prompt = tokens_input([*request.tokens, *given])
        lora = self._adapters[adapter] if adapter else None
        with translated():
            # Shielded: the engine may have the request before this returns, and must then be told of its end.
            with anyio.CancelScope(shield=True):
                queue = await self._llm.add_request(uuid.uuid4().hex, prompt, sampling, lora_request=lora)
            finished = False
            try:
                while not finished:
                    output = queue.get_nowait() or await queue.get()
                    finished = output.finished
                    yield output
            finally:
                if not finished and not self.dead:
                    with anyio.CancelScope(shield=True):
                        await self._llm.abort(queue.request_id, internal=True)


def _deltas(reading: Reader, pieces: Sequence[Piece], *, ended: bool) -> Iterator[Item]:
    if ended and not pieces:
        pieces = [Piece("")]
    for number, piece in enumerate(pieces, start=1):
        yield from reading.read(piece, last=ended and number == len(pieces))


def _reason(output: Any) -> FinishReason | None:
    """Why the answer ended; None while it has not."""
    reason = output.outputs[0].finish_reason
    if reason is None:
        return None
    if reason in ("abort", "error"):
        raise Problem(ProblemType.ENGINE_FAILED, f"vLLM broke the answer off: {reason}.")
    return FinishReason.LENGTH if reason == "length" else FinishReason.STOP
