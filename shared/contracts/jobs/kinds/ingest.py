"""The kind `ingest`: documents that were uploaded, or that a source lists, into a collection."""

from typing import Annotated, Literal

from pydantic import Field

from shared.contracts.envelope import Scalar
from shared.contracts.jobs.spec import JobSpec, SpecPart
from shared.contracts.keys import Action
from shared.contracts.principals import Allowed
from shared.contracts.wire import Wire

__all__ = ["DocumentRef", "FolderSource", "S3Source", "IngestSpec"]


class DocumentRef(Wire):
    """One uploaded document: `object` is its name in the uploads bucket, `sha256` the hash of its bytes. `allowed` are
    the principals that may see it, None where the upload says nothing of it."""

    name: str
    object: str
    sha256: str
    bytes: int
    media_type: str | None = None
    metadata: dict[str, Scalar] = {}
    allowed: Allowed | None = None


class FolderSource(SpecPart):
    """A folder that the scheduler can read. `pattern` is a glob relative to it."""

    type: Literal["folder"] = "folder"
    path: str
    pattern: str = "**/*"


class S3Source(SpecPart):
    """A bucket of an S3-compatible store. Credentials come from the scheduler's environment, never with a job."""

    type: Literal["s3"] = "s3"
    bucket: str
    prefix: str = ""
    endpoint: str | None = None


class IngestSpec(JobSpec):
    """Parse, chunk, embed and index documents, each replacing an earlier version of the same name.

    They were uploaded (`documents`), or are listed in a `source` and compared with what is in the collection; there,
    `prune` also removes what came from the source and is no longer there. `metadata` is for all documents of a source,
    and `allowed` says who may see those of which the source itself does not. `restricted` were uploaded with a list of
    principals: not among `documents`, so that no scheduler brings them in that knows no lists.
    """

    required_action = Action.WRITE
    step_outputs = {
        "documents": "number",
        "indexed": "number",
        "skipped": "number",
        "deleted": "number",
        "failed": "number",
        "chunks": "number",
    }

    kind: Literal["ingest"] = "ingest"
    collection: str
    documents: tuple[DocumentRef, ...] = ()
    restricted: tuple[DocumentRef, ...] = ()
    source: Annotated[FolderSource | S3Source, Field(discriminator="type")] | None = None
    prune: bool = False
    metadata: dict[str, Scalar] = {}
    allowed: Allowed | None = None

    @property
    def uploaded(self) -> tuple[DocumentRef, ...]:
        """All documents that were uploaded."""
        return (*self.documents, *self.restricted)
