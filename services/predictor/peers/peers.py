"""Calls between predictors: an inference is answered where its model is in memory already.

Predictors pull from one queue, so a call reaches whichever is free. One that has neither the model nor room for it
asks one that has the model, and loads the model itself where that fails. The query stays with who pulled it, so a
predictor that dies loses nothing. A model that is asked for often gets a copy in each.

The idea is that of ModelMesh, where any Pod takes a request and passes it on to one that has the model.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, Self

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from opentelemetry import context as contexts
from pydantic import ValidationError

from services.predictor.peers.directory import PeerDirectory
from services.predictor.peers.messages import (
    LoadedModels,
    PeerAnswer,
    PeerCall,
    call_subject,
    loaded_subject,
    short_name,
)
from services.predictor.peers.metrics import FORWARDED
from services.predictor.repository.layout import ModelVersionFiles
from services.predictor.repository.pool import HOT_PER_SECOND, ModelPool
from services.predictor.repository.use_rate import UseRate
from shared.contracts.envelope import Query
from shared.contracts.inference import Call
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import InferenceOutcome
from shared.nats.client import Connection
from shared.tasks import TaskSet, background
from shared.telemetry.tracing import extract_trace, inject_trace, tracer

__all__ = ["Peers"]

log = logging.getLogger(__name__)

TELL_SECONDS: Final = 1.0
"""Between what a predictor tells at most; a change is told at once."""

SETTLING_SECONDS: Final = 0.02
"""Changes that come together are told together."""

END_SECONDS: Final = 5.0
"""For calls in work when the process ends."""

HEADERS: Final = 1024
"""Bytes of a message that are not its body's."""

MOST_RATES: Final = 1_000
"""Models whose forwarded calls are counted."""

NOT_HERE: Final = frozenset({ProblemType.MODEL_NOT_FOUND, ProblemType.MODEL_UNAVAILABLE, ProblemType.QUEUE_FULL})
"""Problems of the other predictor, not of the call."""

Answer = Callable[[PeerCall], Awaitable[InferenceOutcome | None]]


class Peers:
    """Asks and answers within the block of `running`. `room` calls of others at most are in work."""

    def __init__(
        self,
        client: Connection,
        directory: PeerDirectory,
        pool: ModelPool,
        *,
        variant: str,
        room: int,
        draining: asyncio.Event,
    ) -> None:
        self._client = client
        self._directory = directory
        self._pool = pool
        self._variant = variant
        self._room = room
        self._draining = draining
        self._work = TaskSet()
        self._in_work = 0
        self._rates: OrderedDict[tuple[str, str], UseRate] = OrderedDict()

    @asynccontextmanager
    async def running(self, answer: Answer) -> AsyncIterator[Self]:
        """`answer` gives None for a call whose model is not in memory. Raises nats errors."""

        def take(message: Msg) -> None:
            self._work.start(self._answer(message, answer))

        calls = await self._client.listen(call_subject(self._directory.name), take)
        await self._client.listen(loaded_subject(self._variant), self._hear)
        try:
            async with background(self._tell_all()):
                yield self
        finally:
            with suppress(NatsError, OSError, TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await self._tell(leaving=True)
                    await self._client.end(calls)
                    await self._work.ended()

    async def infer(self, query: Query, call: Call, files: ModelVersionFiles) -> InferenceOutcome | None:
        """The outcome of another predictor; None where this one is to load the model. Raises the call's Problem."""
        predictor = self._directory.holder(files.model, files.version)
        if predictor is None or self._is_hot(files):
            return None
        asked = PeerCall(
            query_id=query.id,
            tenant=query.tenant,
            lane=query.lane,
            deadline=query.deadline,
            call=call.model_copy(update={"version": files.version, "texts": {}}),
        )
        payload = asked.model_dump_json(exclude_defaults=True).encode()
        if len(payload) + HEADERS > self._client.max_payload:
            return None
        with tracer.start_as_current_span(f"forward {files.model}"):
            answer = await self._ask(predictor, payload, query.remaining)
        if answer is None:
            FORWARDED.labels("lost").inc()
            return None
        if answer.problem is not None:
            FORWARDED.labels("answered").inc()
            raise Problem.from_details(answer.problem)
        FORWARDED.labels("refused" if answer.outcome is None else "answered").inc()
        return answer.outcome

    def _is_hot(self, files: ModelVersionFiles) -> bool:
        """Count one more call of the model; whether a copy of it pays."""
        key = files.model, files.version
        rate = self._rates.setdefault(key, UseRate())
        self._rates.move_to_end(key)
        if len(self._rates) > MOST_RATES:
            self._rates.popitem(last=False)
        rate.count()
        return rate.per_second >= HOT_PER_SECOND

    async def _ask(self, predictor: str, payload: bytes, seconds: float) -> PeerAnswer | None:
        """None where the predictor is gone, or does not answer in time."""
        headers: dict[str, str] = {}
        inject_trace(headers)
        request = asyncio.create_task(
            self._client.request(call_subject(predictor), payload, timeout=seconds, headers=headers or None)
        )
        try:
            while not request.done() and self._directory.is_alive(predictor):
                await asyncio.wait([request], timeout=TELL_SECONDS)
            return PeerAnswer.model_validate_json(request.result().data) if request.done() else None
        except NoRespondersError:
            self._directory.forget(predictor)
            return None
        except (NatsError, OSError, ValidationError) as error:
            log.info("a predictor does not answer a call: %r", error)
            return None
        finally:
            request.cancel()

    async def _answer(self, message: Msg, answer: Answer) -> None:
        try:
            asked = PeerCall.model_validate_json(message.data)
        except ValidationError as error:
            log.warning("not a call of a predictor: %s", error)
            return
        reply = PeerAnswer()
        if self._in_work < self._room and not self._draining.is_set():
            self._in_work += 1
            token = contexts.attach(extract_trace(message.headers))
            try:
                reply = await _answered(asked, answer)
            finally:
                contexts.detach(token)
                self._in_work -= 1
        with suppress(NatsError, OSError):
            await message.respond(reply.model_dump_json(exclude_defaults=True).encode())

    def _hear(self, message: Msg) -> None:
        with suppress(ValidationError):
            self._directory.hear(LoadedModels.model_validate_json(message.data))

    async def _tell_all(self) -> None:
        while True:
            self._pool.changed.clear()
            with suppress(NatsError, OSError):
                await self._tell(leaving=self._draining.is_set())
            with suppress(TimeoutError):
                async with asyncio.timeout(TELL_SECONDS):
                    await self._pool.changed.wait()
                    await asyncio.sleep(SETTLING_SECONDS)

    async def _tell(self, *, leaving: bool) -> None:
        models = frozenset(short_name(model, version) for model, version in self._pool.held)
        told = LoadedModels(predictor=self._directory.name, models=models, leaving=leaving)
        await self._client.publish(loaded_subject(self._variant), told.model_dump_json().encode())


async def _answered(asked: PeerCall, answer: Answer) -> PeerAnswer:
    """A call that fails otherwise than by a problem of its own is not taken: the asker tries it itself."""
    try:
        async with asyncio.timeout(max(0.0, asked.deadline - time.time())):
            return PeerAnswer(outcome=await answer(asked))
    except Problem as problem:
        return PeerAnswer() if problem.kind in NOT_HERE else PeerAnswer(problem=problem.details)
    except TimeoutError:
        return PeerAnswer()
    except Exception:
        log.exception("a call of another predictor failed")
        return PeerAnswer()
