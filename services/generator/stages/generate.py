"""The stage `generate`: streams what the engine writes, in the mode that its parameters name."""

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Final

from services.generator.adapters import StoredAdapters
from services.generator.engines.base import Engine, Finish, FinishReason, Prepared, Prompt, TextDelta
from services.generator.engines.metrics import count_rewritten, count_sentences
from services.generator.grounding.confidence import Assessment, Assessor
from services.generator.grounding.decline import decline
from services.generator.prompting.context import disjoint_contexts, prompt_passages, with_context_of
from services.generator.streaming.citation_stream import CitationStream
from services.generator.streaming.coalescer import DeltaCoalescer
from services.generator.streaming.moderator import AnswerStoppedError, Moderator
from services.generator.streaming.review import Reviewed
from services.generator.streaming.support_review import SupportReview, shown_passages
from shared.contracts.envelope import Message, Query
from shared.contracts.events import Delivered, SentenceSupport, Usage
from shared.contracts.generation import GenerateParams, Mode, ToolCallDelta, Unsupported
from shared.contracts.moderation import Moderation
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.results import Searched
from shared.runtime.stage import Context

__all__ = ["Generate", "ORIGINAL_QUESTION"]

ORIGINAL_QUESTION = "original_question"
"""The note that keeps the question as it was asked, where another one was searched for."""

ENOUGH_TO_RETRY: Final = 0.5
"""The share of unsupported sentences above which an answer is written again, where that is wanted."""

STRICTER: Final = (
    "A first answer said things that are in no source. Say only what a source says, in its own words. "
    "If no source answers the question, say so in one sentence."
)


class Generate:
    """An answer from sources sends these, then the text with its citations checked, then the end. A chat and a
    completion are the engine's text as it is.

    A query that another worker had begun goes on after what its reader has, if the engine can and the text is free;
    an answer in a given form is written anew, and with the same seed, so that it comes out the same.
    """

    def __init__(
        self,
        engine: Engine,
        adapter: str = "",
        interval: float = 0.0,
        support: SupportReview | None = None,
        *,
        declines: bool = True,
        stored: StoredAdapters | None = None,
        judge: Callable[[Query, Moderation, str], Awaitable[bool]] | None = None,
    ) -> None:
        """Pieces that the engine writes within `interval` seconds are sent as one. `declines` says whether a question
        that the passages cannot answer is declined, where a request does not say. `stored` has the adapters that
        queries name. `judge` says of a sentence whether a model lets it pass."""
        self._declines = declines
        self._support = support or SupportReview()
        self._assessor = Assessor(seconds=self._support.seconds)
        self._engine = engine
        self._adapter = adapter
        self._interval = interval
        self._stored = stored
        self._judge = judge or _unjudged

    async def __call__(self, query: Query, context: Context) -> None:
        params = _seeded(GenerateParams.of(context.params), query)
        if params.mode is not Mode.ANSWER:
            self._check_model(params)
        query = query.with_passages(disjoint_contexts(query.passages))
        assessment = await self._assess(query, params) if params.mode is Mode.ANSWER else Assessment()
        adapter = await self._chosen(query, params)
        prepared = await self._engine.prepare(self._prompt(query, params, assessment, adapter))
        if params.mode is Mode.ANSWER:
            await context.sources(with_context_of(query.passages, prepared.context.joined))
        if self._is_declined(prepared):
            await self._decline(query, context, prepared, assessment)
            return
        after = await self._resumed(params, context)
        await self._write(query, context, prepared, after, assessment)

    async def _assess(self, query: Query, params: GenerateParams) -> Assessment:
        absent = query.results.search.absent if query.results and query.results.search else ()
        embed = partial(self._support.embed, query) if self._support.embed is not None else None
        assessment = await self._assessor.assess(query.question, query.passages, absent, embed)
        declines = self._declines if params.decline is None else params.decline
        return assessment if declines else replace(assessment, answerable=True, absent=())

    def _is_declined(self, prepared: Prepared) -> bool:
        """Whether the engine is not asked. One without a model says itself what it does not find."""
        prompt = prepared.prompt
        return prompt.answerable is False and bool(self._engine.model) and not prompt.params.constrained

    async def _decline(self, query: Query, context: Context, prepared: Prepared, assessment: Assessment) -> None:
        await context.delivered()  # after which nothing of an earlier try reaches the reader
        await context.delta(decline(found=bool(prepared.prompt.passages), absent=assessment.absent))
        await self._end(query, context, prepared, _Written(Finish(FinishReason.STOP, Usage()), ()), assessment)

    async def _chosen(self, query: Query, params: GenerateParams) -> str:
        """The adapter to write with, by the engine's name for it. Raises Problem for one that cannot be had."""
        if not params.adapter:
            return self._adapter
        if self._stored is None:
            raise Problem(ProblemType.MODEL_UNAVAILABLE, "This generator has no access to the store of models.")
        return await self._stored.ready(query.tenant, params.adapter)

    def _check_model(self, params: GenerateParams) -> None:
        served = {self._engine.model, self._adapter, *self._engine.adapters}
        if params.model and self._engine.model and params.model not in served:
            raise Problem(
                ProblemType.MODEL_NOT_FOUND,
                f"This worker serves {self._adapter or self._engine.model!r}, not {params.model!r}.",
            )

    def _prompt(self, query: Query, params: GenerateParams, assessment: Assessment, adapter: str) -> Prompt:
        asked = query.notes.get(ORIGINAL_QUESTION)
        condensed = params.mode is Mode.ANSWER and isinstance(asked, str)
        return Prompt(
            question=str(asked) if condensed else query.question,
            standalone=query.question if condensed else "",
            passages=prompt_passages(query.passages),
            messages=query.messages,
            answerable=None if assessment.confidence is None and assessment.answerable else assessment.answerable,
            absent=assessment.absent,
            params=params,
            adapter=adapter,
            tenant=query.tenant,
        )

    def _model_of(self, prompt: Prompt) -> str:
        """What the answer says it was written with: an adapter of the store by its name there."""
        return prompt.adapter.rpartition("/")[2] or self._engine.model

    async def _resumed(self, params: GenerateParams, context: Context) -> Delivered | None:
        """What to go on after; None to write from the start."""
        delivered = await context.delivered()
        if delivered is None or not delivered.text or not self._engine.resumes or params.constrained:
            return None
        await context.resume(delivered)
        return delivered

    async def _write(
        self,
        query: Query,
        context: Context,
        prepared: Prepared,
        after: Delivered | None,
        assessment: Assessment,
    ) -> None:
        policy = prepared.prompt.params.unsupported or self._support.policy
        async with DeltaCoalescer(context, self._interval) as coalescer:
            if policy is Unsupported.RETRY and after is None and _is_reviewed(prepared):
                written = await self._write_twice(query, prepared, coalescer)
            else:
                written = await self._write_once(query, prepared, after, coalescer.send)
        await self._end(query, context, prepared, written, assessment)

    async def _write_twice(self, query: Query, prepared: Prepared, coalescer: DeltaCoalescer) -> "_Written":
        """The answer, or another one where hardly any source supports it; nothing is sent before it is chosen."""
        chosen: list[TextDelta] = []
        written = await self._write_once(query, prepared, None, _collector(chosen))
        if written.unsupported > ENOUGH_TO_RETRY:
            again: list[TextDelta] = []
            prompt = prepared.prompt
            stricter = replace(prompt, messages=(*prompt.messages, Message(role="system", content=STRICTER)))
            second = await self._write_once(query, await self._engine.prepare(stricter), None, _collector(again))
            count_rewritten(self._engine.name, self._adapter or self._engine.model)
            usage = _added(written.finish.usage, second.finish.usage)
            if second.unsupported < written.unsupported:
                chosen, written = again, second
            written = replace(written, finish=Finish(written.finish.reason, usage))
        for delta in chosen:
            await coalescer.send(delta)
        return written

    async def _write_once(
        self,
        query: Query,
        prepared: Prepared,
        after: Delivered | None,
        send: Callable[[TextDelta], Awaitable[None]],
    ) -> "_Written":
        """Write the answer to `send`, with its citations cleaned, its sentences reviewed and what it says moderated."""
        moderation = prepared.prompt.params.moderation
        if moderation is None:
            return await self._write_freely(query, prepared, after, send)
        moderator = Moderator(moderation, send, partial(self._judge, query, moderation))
        try:
            written = await self._write_freely(query, prepared, after, moderator.send)
            await moderator.flush()
        except AnswerStoppedError:
            usage = Usage(prompt_tokens=prepared.context.prompt_tokens, completion_tokens=moderator.pieces)
            return _Written(Finish(FinishReason.CONTENT_FILTER, usage), ())
        return written

    async def _write_freely(
        self,
        query: Query,
        prepared: Prepared,
        after: Delivered | None,
        send: Callable[[TextDelta], Awaitable[None]],
    ) -> "_Written":
        shown = after.text if after is not None else ""
        citations = _citation_stream(prepared, shown)
        review = self._support.review(query, prepared, self._engine.model, shown) if _is_reviewed(prepared) else None
        calls = _Calls(query.id)
        finish: Finish | None = None
        async with aclosing(self._engine.generate(prepared, after)) as items:
            async for item in items:
                if isinstance(item, Finish):
                    finish, piece = item, citations.flush() if citations else None
                else:
                    delta = replace(item, tool_calls=calls.named(item.tool_calls)) if item.tool_calls else item
                    piece = citations.feed(delta) if citations else delta
                if piece is not None:
                    for passed in await review.feed(piece) if review else [piece]:
                        await send(passed)
        assert finish is not None
        if review is None:
            return _Written(finish, citations.used if citations else ())
        for passed in await review.flush():
            await send(passed)
        reviewed = await review.end()
        return _Written(finish, reviewed.cited, reviewed)

    async def _end(
        self, query: Query, context: Context, prepared: Prepared, written: "_Written", assessment: Assessment
    ) -> None:
        model = self._model_of(prepared.prompt)
        reviewed = written.reviewed
        support: dict[str, Any] = {}
        if reviewed is not None:
            count_sentences(self._engine.name, self._adapter or self._engine.model, reviewed.verdicts)
            support = {
                "supported": tuple(SentenceSupport(**asdict(verdict)) for verdict in reviewed.verdicts),
                "supported_by": reviewed.by.value,
            }
        await context.done(
            usage=written.finish.usage,
            engine=self._engine.name,
            model=model,
            finish=written.finish.reason.value,
            context=prepared.context,
            cited=written.cited,
            confidence=assessment.confidence,
            answerable=prepared.prompt.answerable,
            searched=_searched(query),
            **support,
        )


def _searched(query: Query) -> Searched | None:
    """What was searched for; None where it was the question as it was asked."""
    expansion = query.expansion
    if expansion is None and ORIGINAL_QUESTION not in query.notes:
        return None
    return Searched(question=query.question, **(expansion.model_dump() if expansion else {}))


@dataclass(frozen=True, slots=True)
class _Written:
    finish: Finish
    cited: tuple[int, ...]
    reviewed: Reviewed | None = None

    @property
    def unsupported(self) -> float:
        return self.reviewed.unsupported if self.reviewed is not None else 0.0


async def _unjudged(_: Query, moderation: Moderation, __: str) -> bool:
    """Where no model can be asked."""
    return moderation.lenient


class _Calls:
    """Gives tool calls ids that are the same whoever writes the answer."""

    def __init__(self, query_id: str) -> None:
        self._query_id = query_id
        self._begun: set[int] = set()

    def named(self, calls: Iterable[ToolCallDelta]) -> tuple[ToolCallDelta, ...]:
        return tuple(call.model_copy(update={"id": self._id(call.index)}) for call in calls)

    def _id(self, index: int) -> str | None:
        if index in self._begun:
            return None
        self._begun.add(index)
        return f"call_{self._query_id}_{index}"


def _seeded(params: GenerateParams, query: Query) -> GenerateParams:
    """With a seed of the query's own where a second worker may have to write the same answer from its start."""
    if not params.constrained or params.seed is not None or params.temperature == 0:
        return params
    digest = hashlib.blake2b(query.id.encode(), digest_size=4).digest()
    return params.model_copy(update={"seed": int.from_bytes(digest) >> 1})


def _citation_stream(prepared: Prepared, shown: str) -> CitationStream | None:
    """For an answer from sources, after the text that the reader has; only what the engine was shown may be cited."""
    if prepared.prompt.params.mode is not Mode.ANSWER:
        return None
    stream = CitationStream([passage.index for passage in shown_passages(prepared)])
    if shown:
        stream.resume(shown)
    return stream


def _is_reviewed(prepared: Prepared) -> bool:
    """Whether it has sentences that its sources can support: a given form has other text."""
    params = prepared.prompt.params
    return params.mode is Mode.ANSWER and not params.constrained


def _collector(deltas: list[TextDelta]) -> Callable[[TextDelta], Awaitable[None]]:
    async def collect(delta: TextDelta) -> None:
        deltas.append(delta)

    return collect


def _added(one: Usage, other: Usage) -> Usage:
    return Usage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
    )
