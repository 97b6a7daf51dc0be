"""Embeddings of any number of texts, as queries that fit into the broker's messages, a few at a time."""

import asyncio
import base64
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.context import charge_tokens
from services.gateway.http.problems import ClientLeftError, invalid_member
from services.gateway.http.sse import PING_SECONDS, client_disconnect
from services.gateway.openai.requests import EmbeddingRequest
from services.gateway.openai.responses import Embedding, EmbeddingList, EmbeddingUsage, encode_response
from services.gateway.queries.assembler import Ended
from services.gateway.queries.session import Queries
from shared.contracts.envelope import Passage, Query, Vector, pack_vector, unpack_vector
from shared.contracts.problems import Problem, ProblemType
from shared.groups import groups
from shared.tasks import task_group

__all__ = ["embed_texts", "portions"]

PORTION_TEXTS: Final = 32
"""Texts of one query: with vectors of 4,096 numbers the answer to it takes 700 kB, and a message has 1 MB."""

PORTION_BYTES: Final = 128 * 1024
"""Bytes of text in one query, which come back with the vectors."""

AT_ONCE: Final = 4
"""Queries of one request that are in flight together, so that a large one leaves room for others."""


def portions(texts: Sequence[str]) -> Iterator[tuple[Passage, ...]]:
    """The texts in order, as passages of queries. Raises Problem INVALID_REQUEST for a text that fits into none."""

    def size(passage: Passage) -> int:
        length = len(passage.text.encode("utf-8", "replace"))
        if length > PORTION_BYTES:
            member = f"input[{passage.position}]"
            raise invalid_member(member, f"has {length:,} bytes; at most {PORTION_BYTES:,} are allowed")
        return length

    passages = (
        Passage(id=str(number), document_id="", document="", position=number, text=text)
        for number, text in enumerate(texts)
    )
    return groups(passages, size, most=PORTION_TEXTS, most_size=PORTION_BYTES)


@dataclass(frozen=True, slots=True)
class _Embedded:
    vectors: tuple[Vector, ...]
    tokens: int


async def embed_texts(
    request: Request, queries: Queries, body: EmbeddingRequest, plan: Callable[[tuple[Passage, ...]], Query]
) -> Response:
    """The vectors of all texts. Raises the first Problem of a query, and then the others are stopped.

    `plan` writes the query of a portion when its turn comes, so that each has the whole timeout.
    """
    limit = asyncio.Semaphore(AT_ONCE)

    async def embed(portion: tuple[Passage, ...]) -> _Embedded:
        await limit.acquire()
        if departure.happened:
            raise ClientLeftError
        async with queries.ask(plan(portion), departure, append_only=False) as session:
            while session.ended is None:
                await session.parts(PING_SECONDS)
        limit.release()  # not after a failure: no other query may start
        return _embedded(session.answer.sources, session.ended, len(portion))

    async with client_disconnect(request.scope, request.receive) as departure, task_group() as tasks:
        started = [tasks.create_task(embed(portion)) for portion in portions(body.input)]
    embedded = [task.result() for task in started]
    charge_tokens(request.scope, sum(one.tokens for one in embedded))
    return Response(_response_body(body, embedded), media_type="application/json")


def _response_body(body: EmbeddingRequest, embedded: Sequence[_Embedded]) -> bytes:
    vectors = [vector for one in embedded for vector in one.vectors]
    tokens = sum(one.tokens for one in embedded)
    if body.dimensions is not None:
        vectors = _shortened(vectors, body.dimensions)
    write = _in_base64 if body.encoding_format == "base64" else _as_numbers
    data = [Embedding(object="embedding", index=i, embedding=write(vector)) for i, vector in enumerate(vectors)]
    usage = EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens)
    return encode_response(EmbeddingList(object="list", data=data, model=body.model, usage=usage))


def _embedded(passages: Sequence[Passage], ended: Ended, wanted: int) -> _Embedded:
    vectors = tuple(passage.vector for passage in passages if passage.vector is not None)
    if len(vectors) != wanted:
        raise Problem(ProblemType.STAGE_FAILED, "The stage 'embed' did not return a vector for each text.")
    tokens = ended.notes.get("embed_tokens")
    return _Embedded(vectors, tokens if isinstance(tokens, int) else 0)


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
