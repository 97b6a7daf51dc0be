"""Stages of the default pipeline without models; see `tests.chaos.expected_answers` for their answers and failures."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from shared.contracts.envelope import Passage, Query
from shared.contracts.events import Delivered, Usage
from shared.runtime.stage import Context, Stage
from shared.service.process import main
from shared.service.service import ASGIApp, Service
from shared.service.settings import ServiceSettings
from tests.chaos.expected_answers import DIE, FAIL, SLOW, answer_to, embedding_of, passages_for, pieces_of

PAUSE = 0.05
"""Seconds between two pieces of a slow answer."""


class StagesSettings(ServiceSettings):
    stages: str = "embed,retrieve,generate"
    room: int = 64


async def embed(query: Query, _: Context) -> Query:
    return query.with_embedding(embedding_of(query.tenant, query.question))


async def retrieve(query: Query, _: Context) -> Query:
    if query.question.startswith(DIE):
        os.kill(os.getpid(), signal.SIGKILL)
    if query.question.startswith(FAIL):
        raise RuntimeError("a poison query")
    texts = passages_for(query.tenant, query.question, query.embedding or b"")
    return query.with_passages(
        Passage(id=f"d:{n}", document_id="d", document="constant.txt", position=n, text=text)
        for n, text in enumerate(texts)
    )


async def generate(query: Query, context: Context) -> None:
    answer = answer_to(query.tenant, query.question, [passage.text for passage in query.passages] or ["nothing"])
    delivered = Delivered()
    if len(query.id) and int(query.id[-1], 16) % 2:  # half of the answers go on, the others start anew
        delivered = await context.delivered() or delivered
    await context.sources(query.passages)
    if delivered.text and answer.startswith(delivered.text):
        await context.resume(delivered)
        answer = answer[len(delivered.text) :]
    for piece in pieces_of(answer):
        await context.delta(piece)
        if query.question.startswith(SLOW):
            await asyncio.sleep(PAUSE)
    await context.done(usage=Usage(prompt_tokens=1, completion_tokens=1), engine="constant")


PROCESSES = {"embed": embed, "retrieve": retrieve, "generate": generate}


async def generate_or_canary(query: Query, context: Context) -> Query | None:
    if query.id.startswith("canary"):
        return query
    await generate(query, context)
    return None


def make(settings: StagesSettings) -> tuple[Service, ASGIApp]:
    @asynccontextmanager
    async def setup(_: Service) -> AsyncIterator[Sequence[Stage]]:
        chosen = {**PROCESSES, "generate": generate_or_canary}
        yield [
            Stage(name=name, process=chosen[name], room=settings.room, batch_room=8)
            for name in settings.stages.split(",")
        ]

    service = Service("stages", settings, setup)
    return service, service.asgi()


if __name__ == "__main__":
    main("stages", StagesSettings, make)
