"""Requests and responses of /v1/rerank and /v2/rerank.

`/v1/rerank` takes what clients of Cohere v1, Jina, vLLM and Text Embeddings Inference (TEI) send, `/v2/rerank` what
those of Cohere v2 do. As these APIs do, both ignore members that they do not know.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from services.gateway.http.problems import invalid_member

__all__ = [
    "MAX_DOCUMENTS",
    "RerankRequest",
    "RerankRequestV2",
    "RerankResponse",
    "RerankResponseV2",
    "RerankResult",
    "TeiRank",
]

MAX_DOCUMENTS: Final = 1_000
"""Documents of one request."""

SEARCH_UNIT: Final = 100
"""Documents that Cohere bills as one search."""

Document = str | dict[str, JsonValue]
Documents = Annotated[list[Document], Field(min_length=1, max_length=MAX_DOCUMENTS)]
TopN = Annotated[int, Field(ge=1, description="How many results to return, the best first; all if null.")]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True)

    query: str = Field(description="The question or the search.")


class RerankRequest(_Request):
    """The form of Cohere v1, Jina, vLLM and TEI. TEI's says `texts`, and is answered as TEI does."""

    model: str | None = Field(None, description="A model that GET /v1/models lists; the route's if null.")
    documents: Documents | None = Field(None, description="Texts, or objects with a member `text`.")
    texts: Documents | None = Field(None, description="TEI: the documents.")
    top_n: TopN | None = None
    rank_fields: list[str] | None = Field(None, description="The members of the documents to compare, in this order.")
    return_documents: bool | None = Field(None, description="Return the texts as well.")
    return_text: bool | None = Field(None, description="TEI: return the texts as well.")
    raw_scores: Literal[False] | None = Field(None, description="TEI: scores are always from 0 to 1 here.")
    timeout: float | None = Field(None, description="Seconds that the request may take.")

    @model_validator(mode="after")
    def _documents_once(self) -> Self:
        if (self.documents is None) == (self.texts is None):
            raise ValueError("send `documents`, or `texts` as TEI's clients do")
        return self

    @property
    def is_tei(self) -> bool:
        return self.texts is not None

    @property
    def returns_texts(self) -> bool:
        return bool(self.return_documents or self.return_text)

    def read_texts(self) -> list[str]:
        """The text of each document. Raises Problem INVALID_REQUEST for one without any."""
        return [self._text(index, document) for index, document in enumerate(self.documents or self.texts or ())]

    def _text(self, index: int, document: Document) -> str:
        if isinstance(document, str):
            return document
        if self.rank_fields is not None:
            lines = [f"{name}: {document[name]}" for name in self.rank_fields if document.get(name) is not None]
            if lines:
                return "\n".join(lines)
            raise invalid_member(f"documents[{index}]", "has none of the members that rank_fields names")
        text = document.get("text")
        if not isinstance(text, str):
            raise invalid_member(f"documents[{index}]", "is neither a text nor an object with a text in `text`")
        return text


class RerankRequestV2(_Request):
    """The form of Cohere v2."""

    model: str = Field(description="A model that GET /v1/models lists.")
    documents: Annotated[list[str], Field(min_length=1, max_length=MAX_DOCUMENTS)]
    top_n: TopN | None = None


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True)


class DocumentText(_Response):
    text: str


class RerankResult(_Response):
    """`index` counts the documents of the request from 0. Scores are from 0 to 1."""

    index: int
    relevance_score: float
    document: DocumentText | None = None


class ApiVersion(_Response):
    version: Literal["1", "2"]


class BilledUnits(_Response):
    """One search unit is up to 100 documents. Nothing is billed."""

    search_units: int

    @classmethod
    def of(cls, documents: int) -> "BilledUnits":
        return cls(search_units=-(-documents // SEARCH_UNIT))


class TokenCount(_Response):
    input_tokens: int


class Meta(_Response):
    api_version: ApiVersion
    billed_units: BilledUnits
    tokens: TokenCount


class RerankUsage(_Response):
    prompt_tokens: int
    total_tokens: int


class RerankResponse(_Response):
    """Results, the best first. `usage` is as Jina and vLLM say it, `meta` as Cohere does."""

    id: str
    model: str
    results: list[RerankResult]
    usage: RerankUsage
    meta: Meta


class RerankResponseV2(_Response):
    id: str
    results: list[RerankResult]
    meta: Meta


class TeiRank(_Response):
    index: int
    score: float
    text: str | None = None
