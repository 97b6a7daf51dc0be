"""Any server that scores passages over HTTP: Cohere, Jina, vLLM, Text Embeddings Inference (TEI), or another Sluice."""

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import httpx
from pydantic import AliasChoices, BaseModel, Field, FiniteFloat, SecretStr, TypeAdapter, ValidationError

from services.embedder.model.features import encodable
from services.embedder.reranking.base import RerankerName, Scored
from shared.contracts.problems import Problem, ProblemType

__all__ = ["RemoteApi", "RemoteConfig", "RemoteReranker"]

CONNECT_SECONDS: Final = 5.0
FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 2.0
LONGEST_MESSAGE: Final = 300
"""Characters of what the server said that are passed on."""

RETRYABLE: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class RemoteApi(StrEnum):
    """The form of requests. What vLLM takes, most other servers take as well."""

    COHERE = "cohere"
    JINA = "jina"
    VLLM = "vllm"
    TEI = "tei"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteConfig:
    """`url` is the whole address of the endpoint, such as `https://api.cohere.com/v2/rerank`.

    `timeout` is in seconds, for one request. `logits` says that the server's scores are logits, not 0 to 1.
    """

    url: str
    api: RemoteApi = RemoteApi.COHERE
    model: str = ""
    api_key: SecretStr = field(default_factory=lambda: SecretStr(""))
    timeout: float = 10.0
    max_retries: int = 2
    batch: int = 32
    connections: int = 16
    logits: bool = False


class _Result(BaseModel):
    index: int
    score: FiniteFloat = Field(validation_alias=AliasChoices("relevance_score", "score"))


class _Usage(BaseModel):
    total_tokens: int = 0


class _Response(BaseModel):
    results: list[_Result]
    usage: _Usage | None = None


_TEI_RESPONSE: Final = TypeAdapter(list[_Result])


class RemoteReranker:
    """Sends up to `batch` passages a request over reused connections.

    A request that fails on the way, or that the server answers with a status that a later try may not have, is sent
    again up to `max_retries` times, after the time that the server asks for or with exponential backoff and jitter. A
    problem carries the server's status as `upstream_status`, never the key.
    """

    name = RerankerName.REMOTE.value

    def __init__(self, config: RemoteConfig) -> None:
        self._config = config
        self._client: httpx.AsyncClient | None = None
        self.model = config.model or RerankerName.REMOTE.value
        self.batch = config.batch

    async def start(self) -> None:
        """Asks the server for nothing: where it is away, embedding goes on."""
        key = self._config.api_key.get_secret_value()
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(self._config.timeout, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=self._config.connections),
            follow_redirects=False,
        )

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def costs(self, question: str, passages: Sequence[str]) -> list[int]:  # noqa: ARG002  (the protocol)
        return [0] * len(passages)

    async def score(self, question: str, passages: Sequence[str], *, urgent: bool) -> Scored:  # noqa: ARG002
        if not passages:
            return Scored([], 0)
        content = await self._request(self._body(encodable(question), list(map(encodable, passages))))
        results, tokens = self._read(content)
        scores = dict.fromkeys(range(len(passages)), math.nan)
        for result in results:
            if result.index not in scores:
                raise _failed(f"The rerank server scored document {result.index} of {len(passages)}.")
            scores[result.index] = self._score(result.score)
        if any(map(math.isnan, scores.values())):
            raise _failed("The rerank server did not score every document.")
        return Scored(list(scores.values()), tokens)

    def _body(self, question: str, passages: list[str]) -> dict[str, Any]:
        config = self._config
        if config.api is RemoteApi.TEI:
            return {"query": question, "texts": passages, "raw_scores": config.logits, "truncate": True}
        body: dict[str, Any] = {"query": question, "documents": passages, "top_n": len(passages)}
        if config.model:
            body["model"] = config.model
        if config.api is RemoteApi.JINA:
            body["return_documents"] = False
        return body

    def _read(self, content: bytes) -> tuple[list[_Result], int]:
        try:
            if self._config.api is RemoteApi.TEI:
                return _TEI_RESPONSE.validate_json(content), 0
            response = _Response.model_validate_json(content)
        except ValidationError:
            detail = f"The rerank server's response is not of the API '{self._config.api}' (SLUICE_RERANK_API)."
            raise _failed(detail) from None
        return response.results, response.usage.total_tokens if response.usage else 0

    def _score(self, value: float) -> float:
        if self._config.logits:
            return 0.5 * (1.0 + math.tanh(0.5 * value))
        if not 0.0 <= value <= 1.0:
            raise _failed(
                f"The rerank server gave the score {value:g}, which is not from 0 to 1. If its scores are logits, set "
                "SLUICE_RERANK_LOGITS=true."
            )
        return value

    async def _request(self, body: dict[str, Any]) -> bytes:
        """The body of the response. Raises Problem once no further try is left."""
        client = self._client
        if client is None:
            raise RuntimeError("score was called before start")
        tries = 0
        while True:
            tries += 1
            delay: float | None = None
            try:
                response = await client.post(self._config.url, json=body)
            except httpx.HTTPError as error:
                problem = _failed(f"The connection to the rerank server failed ({type(error).__name__}).")
                retryable = not isinstance(error, httpx.ReadTimeout)
            else:
                if response.is_success:
                    return response.content
                problem = self._refused(response)
                retryable = response.status_code in RETRYABLE
                delay = _retry_after(response)
            if delay is None:
                delay = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (tries - 1)) * random.uniform(0.5, 1.0)  # noqa: S311
            if not retryable or tries > self._config.max_retries:
                raise problem
            await asyncio.sleep(delay)

    def _refused(self, response: httpx.Response) -> Problem:
        status = response.status_code
        said = " ".join(response.text.split())[:LONGEST_MESSAGE]
        if key := self._config.api_key.get_secret_value():
            said = said.replace(key, "***")
        if status in {401, 403}:
            detail = f"The rerank server refuses the key (SLUICE_RERANK_API_KEY): {said}"
        elif status == 404:
            detail = f"The rerank server has no such endpoint or model (SLUICE_RERANK_URL, SLUICE_RERANK_MODEL): {said}"
        else:
            detail = f"The rerank server answered {status}: {said}"
        return Problem(ProblemType.RERANKER_FAILED, detail, upstream_status=status)


def _failed(detail: str) -> Problem:
    return Problem(ProblemType.RERANKER_FAILED, detail)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds; a date instead of a number is not understood."""
    try:
        seconds = float(response.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return seconds if 0 <= seconds < math.inf else None
