"""Embeddings of any number of texts."""

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.context import charge_tokens
from services.gateway.http.problems import invalid_member
from services.gateway.openai.requests import EmbeddingRequest
from services.gateway.openai.responses import Embedding, EmbeddingList, EmbeddingUsage, encode_response
from services.gateway.queries.assembler import Ended
from services.gateway.queries.portions import ask_portions, portions
from services.gateway.queries.session import Queries
from shared.contracts.envelope import Passage, Query, Vector, pack_vector, unpack_vector
from shared.contracts.events import Usage
from shared.contracts.problems import Problem, ProblemType

__all__ = ["embed_texts"]

PORTION_TEXTS: Final = 32
"""Texts of one query: with vectors of 4,096 numbers the answer to it takes 700 kB, and a message has 1 MB."""


@dataclass(frozen=True, slots=True)
class _Embedded:
    vectors: tuple[Vector, ...]
    tokens: int


async def embed_texts(
    request: Request, queries: Queries, body: EmbeddingRequest, plan: Callable[[tuple[Passage, ...]], Query]
) -> Response:
    """The vectors of all texts. Raises the first Problem of a query, and then the others are stopped."""
    texts = portions(body.input, member="input", most=PORTION_TEXTS)
    parts = await ask_portions(request, queries, texts, plan)
    embedded = [_embedded(part.passages, part.ended) for part in parts]
    if sum(len(one.vectors) for one in embedded) != len(body.input):
        raise Problem(ProblemType.STAGE_FAILED, "The stage 'embed' did not return a vector for each text.")
    charge_tokens(request.scope, body.model, Usage(prompt_tokens=sum(one.tokens for one in embedded)))
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


def _embedded(passages: Sequence[Passage], ended: Ended) -> _Embedded:
    vectors = tuple(passage.vector for passage in passages if passage.vector is not None)
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
