"""Compares the questions to each collection with those before, now and then. Of several schedulers one does.

It embeds samples of the kept questions as they were embedded for the search, and keeps their vectors for the next
round. A vector goes with its question: what was erased or is too old is not kept here either.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Container, Sequence
from contextlib import aclosing
from typing import Final

import numpy as np
from anyio import to_thread
from nats.errors import Error as NatsError
from numpy.typing import NDArray

from services.scheduler.clients.embed import PassageEmbedder
from services.scheduler.drift.question_metrics import COMPARISONS, QuestionMetrics
from services.scheduler.drift.question_samples import QuestionSamples, SampledQuestion
from services.scheduler.drift.settings import DriftSettings
from services.scheduler.drift.two_samples import Difference, energy_test, kolmogorov_smirnov_test
from shared.contracts.collections import Collection, CollectionVersion
from shared.contracts.envelope import Passage, Stop
from shared.contracts.problems import Problem, ProblemType
from shared.stores.collections import Collections
from shared.stores.kept_questions import KeptQuestions
from shared.stores.lease import Lease

__all__ = ["LEAST", "QuestionWatch"]

log = logging.getLogger(__name__)

LEAST: Final = 50
"""Questions of each window, and scores, without which nothing is said."""

LOOK: Final = 30.0
"""Seconds between two renewals of the lease."""

READING: Final = 240.0
EMBEDDING: Final = 120.0
"""Seconds for reading all kept answers, and for embedding the questions of one collection; less than a lease lasts."""

Place = tuple[str, str]
Vectors = NDArray[np.float32]
EmbedStop = Callable[[CollectionVersion], Stop]


class QuestionWatch:
    """One per process. `embed_stop` says how questions to a version are embedded."""

    def __init__(
        self,
        *,
        questions: KeptQuestions,
        collections: Collections,
        embedder: PassageEmbedder,
        embed_stop: EmbedStop,
        lease: Lease,
        settings: DriftSettings,
    ) -> None:
        self._questions = questions
        self._collections = collections
        self._embedder = embedder
        self._embed_stop = embed_stop
        self._lease = lease
        self._settings = settings
        self._metrics = QuestionMetrics()
        self._vectors: dict[Place, tuple[Stop, dict[str, Vectors]]] = {}

    async def run(self) -> None:
        """Until it is cancelled. A broker that is away, or a record that cannot be read, costs a round."""
        period, due, told = 60 * self._settings.question_drift_minutes, 0.0, False
        while True:
            try:
                if not await self._lease.renew():
                    self._keep(set())
                elif time.monotonic() >= due:
                    due = time.monotonic() + period
                    await self.round(time.time())
                told = False
            except (NatsError, TimeoutError, OSError, ValueError) as error:
                if not told:
                    log.warning("the questions of collections cannot be compared: %r", error)
                told = True
            await asyncio.sleep(min(LOOK, period))

    async def round(self, now: float) -> None:
        """Compare the questions to each collection as of the Unix time `now`, and show what was found. Raises nats
        errors and TimeoutError where they cannot be read."""
        async with asyncio.timeout(READING):
            known = {(each.tenant, each.name): each for each in await self._collections.every()}
            found = (await self._sampled(known, now)).found
        samples = {place: (before.questions, recent.questions) for place, (before, recent) in found.items()}
        enough = {place: both for place, both in samples.items() if min(map(len, both)) >= LEAST}
        COMPARISONS.labels("too-few").inc(len(samples) - len(enough))
        self._keep(set(enough))
        away: set[str] = set()
        for place, (before, recent) in enough.items():
            if not await self._lease.renew():
                return
            # As questions, though they travel as passages: many in a message.
            stop = self._embed_stop(known[place].queried).with_params(kind="query")
            if stop.variant in away:
                COMPARISONS.labels("failed").inc()
                continue
            try:
                await self._compare(known[place], stop, before, recent)
            except (Problem, TimeoutError, ValueError) as error:
                COMPARISONS.labels("failed").inc()
                if isinstance(error, TimeoutError) or _nobody_works(error):
                    away.add(stop.variant)
                tenant, collection = place
                where = {"tenant": tenant, "collection": collection}
                log.warning("the questions of a collection were not embedded: %r", error, extra=where)

    async def _sampled(self, known: Container[Place], now: float) -> QuestionSamples:
        settings = self._settings
        samples = QuestionSamples(
            known,
            now,
            hours=settings.question_drift_hours,
            days=settings.question_drift_reference_days,
            most=settings.question_drift_sample,
        )
        async with aclosing(self._questions.all()) as questions:
            async for tenant, kept in questions:
                samples.add(tenant, kept)
        return samples

    async def _compare(
        self,
        collection: Collection,
        stop: Stop,
        before: Sequence[SampledQuestion],
        recent: Sequence[SampledQuestion],
    ) -> None:
        async with asyncio.timeout(EMBEDDING):
            vectors = await self._embedded(collection, stop, [*before, *recent])
        rows = np.stack([vectors[question.id] for question in (*before, *recent)]).astype(np.float64)
        difference, scores = await to_thread.run_sync(_compared, rows, before, recent)
        self._metrics.show((collection.tenant, collection.name), difference, scores, (len(before), len(recent)))
        COMPARISONS.labels("compared").inc()

    async def _embedded(
        self, collection: Collection, stop: Stop, questions: Sequence[SampledQuestion]
    ) -> dict[str, Vectors]:
        """The vectors of questions by their ids; those that the last round has not left are made."""
        place = collection.tenant, collection.name
        made_by, earlier = self._vectors.get(place, (stop, {}))
        kept = {one.id: earlier[one.id] for one in questions if one.id in earlier} if made_by == stop else {}
        new = tuple(
            Passage(id=one.id, document_id="", document="", position=0, text=one.text)
            for one in questions
            if one.id not in kept
        )
        if new:
            made = await self._embedder.embed(stop, collection.tenant, collection.table, new)
            kept |= {one.id: np.frombuffer(one.vector or b"", dtype="<f4") for one in made}
        if len({vector.shape for vector in kept.values()}) > 1:
            # The embedder has got another model. Only the next round can compare.
            self._vectors.pop(place, None)
            raise Problem(ProblemType.STAGE_FAILED, "The embedder's vectors have another length than before.")
        self._vectors[place] = stop, kept
        return kept

    def _keep(self, places: set[Place]) -> None:
        self._metrics.keep(places)
        self._vectors = {place: vectors for place, vectors in self._vectors.items() if place in places}


def _nobody_works(error: Exception) -> bool:
    return isinstance(error, Problem) and error.kind is ProblemType.STAGE_UNAVAILABLE


def _compared(
    rows: NDArray[np.float64], before: Sequence[SampledQuestion], recent: Sequence[SampledQuestion]
) -> tuple[Difference, dict[str, Difference]]:
    """The difference of the questions, and those of each score that both windows have enough of."""
    scores = {}
    for name in ("best", "confidence"):
        then, now = (
            np.array([score for one in window if (score := getattr(one, name)) is not None], dtype=np.float64)
            for window in (before, recent)
        )
        if min(len(then), len(now)) >= LEAST:
            scores[name] = kolmogorov_smirnov_test(then, now)
    return energy_test(rows[: len(before)], rows[len(before) :]), scores
