"""The kind `tune`: a search for options under which questions find their documents better."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from shared.contracts.collections import VersionName
from shared.contracts.jobs.spec import JobSpec, SpecPart
from shared.contracts.keys import Action

__all__ = ["ChunkSize", "TuneSpec"]


class ChunkSize(SpecPart):
    """How documents are cut, in tokens. Without an `overlap` it is the live version's, at most a quarter."""

    tokens: int = Field(ge=32, le=8192)
    overlap: int | None = Field(None, ge=0)


class TuneSpec(JobSpec):
    """Try options of retrieval on one half of a set of questions, and compare the best with the default on the other.

    `input` names an artifact, JSONL as for `evaluate`; questions without sources are left out. At most `trials` are
    made, and none begins after `seconds`. With `rerank` the stage of that name is tried too, where one answers. Each of
    `chunks` is a way to cut the documents that is tried as well: a version of the collection is built for it. Where the
    best is better, a version with its options is made, called `version`; with `adopt` it becomes the live one. `keep`
    is as for `reindex`.
    """

    required_action = Action.WRITE
    is_run = True
    main_metrics = ("ndcg_best", "difference")
    step_outputs = {
        "better": "boolean",
        "difference": "number",
        "difference_low": "number",
        "difference_high": "number",
        "ndcg_default": "number",
        "ndcg_best": "number",
        "trials": "number",
        "questions": "number",
        "held_out": "number",
        "version": "text",
        "documents": "number",
        "chunks": "number",
        "live": "boolean",
        "previous": "text",
        "message": "text",
    }

    kind: Literal["tune"] = "tune"
    input: str
    collection: str
    trials: int = Field(40, ge=2, le=200)
    seconds: float | None = Field(None, gt=0)
    seed: int = Field(0, ge=0, lt=2**32)
    rerank: bool = True
    chunks: Annotated[tuple[ChunkSize, ...], Field(max_length=8)] = ()
    version: VersionName | None = None
    adopt: bool = False
    keep: int = Field(1, ge=0, le=20)
    concurrency: int = Field(8, ge=1, le=256)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.chunks)) < len(self.chunks):
            raise ValueError("each way to cut the documents is given once")
        return self
