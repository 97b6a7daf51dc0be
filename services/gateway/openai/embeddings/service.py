"""Embeddings of any number of texts: cut into queries that fit on the broker, computed a few at a time, in order."""

import asyncio
import base64
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from services.gateway.context import charge_tokens
from services.gateway.http.problems import ClientLeftError, invalid_member
from services.gateway.http.sse import PING_SECONDS, client_disconnect
from services.gateway.openai.requests import EmbeddingRequest
from services.gateway.openai.responses import Embedding, EmbeddingList, EmbeddingUsage, encoded
from services.gateway.queries.assembler import Ended
from services.gateway.queries.session import Queries
from shared.contracts.envelope import Passage, Query, Vector, pack_vector, unpack_vector
from shared.contracts.problems import Problem, ProblemType
from shared.service.http_protocol import Departure

__all__ = ["Embedded", "portions"]

PORTION_TEXTS: Final = 32
"""Texts of one query: with vectors of 4,096 numbers the answer to it takes 700 kB, and a message has 1 MB."""

PORTION_BYTES: Final = 128 * 1024
"""Bytes of text in one query, which come back with the vectors."""

AT_ONCE: Final = 4
"""Queries of one request that are in flight together, so that a large one leaves room for others."""


def portions(texts: Sequence[str]) -> Iterator[tuple[Passage, ...]]:
    """The texts in order, as passages of queries. Raises Problem INVALID_REQUEST for a text that fits into none."""
    portion: list[Passage] = []
    size = 0
    for number, text in enumerate(texts):
        length = len(text.encode("utf-8", "replace"))
        if length > PORTION_BYTES:
            raise invalid_member(f"input[{number}]", f"has {length:,} bytes; at most {PORTION_BYTES:,} are allowed")
        if portion and (len(portion) == PORTION_TEXTS or size + length > PORTION_BYTES):
            yield tuple(portion)
            portion, size = [], 0
        portion.append(Passage(id=str(number), document_id="", document="", position=number, text=text))
        size += length
    yield tuple(portion)


@dataclass(frozen=True, slots=True)
class _Made:
    vectors: tuple[Vector, ...]
    tokens: int


class Embedded(Response):
    """The vectors of all texts, or the first problem that one of the queries had; then the others are stopped.

    `plan_query` makes the query of a portion when its turn comes, so that each has the whole of its time.
    """

    def __init__(self, queries: Queries, asked: EmbeddingRequest, plan_query: Callable[[tuple[Passage, ...]], Query]):
        super().__init__()
        self._queries = queries
        self._asked = asked
        self._compose = plan_query
        self._portions = list(portions(asked.input))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with client_disconnect(scope, receive) as departure:
            made = await self._all(departure)
        charge_tokens(scope, sum(one.tokens for one in made))
        await Response(self._body(made), media_type="application/json")(scope, receive, send)

    async def _all(self, departure: Departure) -> list[_Made]:
        some = asyncio.Semaphore(AT_ONCE)

        async def turn(portion: tuple[Passage, ...]) -> _Made:
            await some.acquire()
            made = await self._one(portion, departure)
            some.release()  # not after a failure: nothing more is to begin
            return made

        try:
            async with asyncio.TaskGroup() as tasks:
                made = [tasks.create_task(turn(portion)) for portion in self._portions]
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        return [task.result() for task in made]

    async def _one(self, portion: tuple[Passage, ...], departure: Departure) -> _Made:
        if departure.happened:
            raise ClientLeftError
        query = self._compose(portion)
        async with self._queries.ask(query, departure, standing=False) as session:
            while session.ended is None:
                await session.parts(PING_SECONDS)
        assert session.ended is not None
        return _made(session.answer.sources, session.ended, len(portion))

    def _body(self, made: Sequence[_Made]) -> bytes:
        vectors = [vector for one in made for vector in one.vectors]
        tokens = sum(one.tokens for one in made)
        asked = self._asked
        if asked.dimensions is not None:
            vectors = _shortened(vectors, asked.dimensions)
        write = _in_base64 if asked.encoding_format == "base64" else _as_numbers
        data = [Embedding(object="embedding", index=i, embedding=write(vector)) for i, vector in enumerate(vectors)]
        usage = EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens)
        return encoded(EmbeddingList(object="list", data=data, model=asked.model, usage=usage))


def _made(passages: Sequence[Passage], ended: Ended, wanted: int) -> _Made:
    vectors = tuple(passage.vector for passage in passages if passage.vector is not None)
    if len(vectors) != wanted:
        raise Problem(ProblemType.STAGE_FAILED, "The stage 'embed' did not return a vector for each text.")
    tokens = ended.notes.get("embed_tokens")
    return _Made(vectors, tokens if isinstance(tokens, int) else 0)


def _shortened(vectors: Sequence[Vector], dimensions: int) -> list[Vector]:
    """The first numbers of each vector, at length 1 again. Raises Problem INVALID_REQUEST."""
    longest = len(vectors[0]) // 4
    if dimensions > longest:
        raise invalid_member("dimensions", f"the model's vectors have {longest}")
    if dimensions == longest:
        return list(vectors)
    shortened = []
    for vector in vectors:
        numbers = unpack_vector(vector[: dimensions * 4])
        length = math.hypot(*numbers) or 1.0
        shortened.append(pack_vector([number / length for number in numbers]))
    return shortened


def _as_numbers(vector: Vector) -> list[float]:
    return list(unpack_vector(vector))


def _in_base64(vector: Vector) -> str:
    return base64.b64encode(vector).decode()
