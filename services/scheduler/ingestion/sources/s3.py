"""A bucket of an S3-compatible store, below a root that the scheduler's settings allow.

Credentials and region are those of the scheduler's environment (AWS_ACCESS_KEY_ID and so on, a role, or the metadata
service of its machine), so that none ever travels with a job.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from services.scheduler.ingestion.reader.reader import MAX_DOCUMENT_BYTES
from services.scheduler.ingestion.sources.base import Listed
from services.scheduler.ingestion.sources.permission_files import PERMISSION_FILE, PermissionFiles
from shared.contracts.documents import spell_name
from shared.contracts.jobs import S3Source
from shared.contracts.problems import Problem, ProblemType

if TYPE_CHECKING:
    from obstore import ObjectMeta

__all__ = ["Bucket"]

TIMEOUT: Final = timedelta(seconds=60)
RETRIES: Final = 3
CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
STATUS: Final = re.compile(r"status code: (\d{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """An object is called `<bucket>/<key>`. A prefix is a folder: `a/b` holds `a/b/c` and not `a/bc`.

    Who may see an object, PERMISSION_FILE in its folder or in one above says, as far as the prefix goes.
    """

    store: S3Store
    bucket: str
    prefix: str
    endpoint: str

    @classmethod
    def open(cls, spec: S3Source, roots: Sequence[str], endpoints: Sequence[str]) -> Self:
        """Raises Problem SOURCE_REFUSED for what is outside of all roots, or for an endpoint that is not allowed;
        INVALID_REQUEST for a prefix that no key has."""
        prefix = spec.prefix.strip("/")
        if not any(_holds(root, spec.bucket, prefix) for root in roots):
            raise Problem(
                ProblemType.SOURCE_REFUSED,
                f"s3://{spec.bucket}/{prefix} is not below what the scheduler may read. SLUICE_SOURCE_ROOTS names it.",
            )
        if spec.endpoint is not None and spec.endpoint not in endpoints:
            raise Problem(
                ProblemType.SOURCE_REFUSED,
                f"The endpoint {spec.endpoint!r} is not one of SLUICE_SOURCE_ENDPOINTS, which the scheduler may call.",
            )
        if prefix and (CONTROL.search(prefix) or any(part in ("", ".") for part in prefix.split("/"))):
            raise Problem(ProblemType.INVALID_REQUEST, f"{prefix!r} is not a prefix that keys of a bucket can have.")
        endpoint = spec.endpoint or ""
        with _told(spec.bucket):
            store = S3Store(
                spec.bucket,
                endpoint=spec.endpoint,
                client_options={"timeout": TIMEOUT, "allow_http": endpoint.startswith("http://")},
                retry_config={"max_retries": RETRIES, "retry_timeout": TIMEOUT},
            )
        return cls(store=store, bucket=spec.bucket, prefix=prefix, endpoint=endpoint)

    @property
    def origin(self) -> str:
        """The endpoint is part of it: a bucket of this name may be on another store too."""
        at = f"?endpoint={self.endpoint}" if self.endpoint else ""
        return f"s3://{self.bucket}/{self.prefix}{at}"

    async def list(self) -> list[Listed]:
        """Raises Problem SOURCE_UNAVAILABLE, SOURCE_REFUSED or NOT_FOUND."""
        items: list[ObjectMeta] = []
        permissions = PermissionFiles()
        with _told(self.bucket):
            async for page in self.store.list(prefix=self.prefix or None, chunk_size=1000):
                for item in page:
                    *folder, name = item["path"].split("/")
                    if name == PERMISSION_FILE:
                        permissions.add(folder, await self._load(item["path"], item["size"]))
                    elif not any(part.startswith(".") for part in (*folder, name)):
                        items.append(item)
        found = [
            Listed(
                name=spell_name(f"{self.bucket}/{item['path']}"),
                size=item["size"],
                stamp=item["e_tag"] or f"{item['last_modified'].timestamp()}-{item['size']}",
                load=partial(self._load, item["path"], item["size"]),
                allowed=permissions.allowed(item["path"].split("/")),
            )
            for item in items
        ]
        return sorted(found, key=lambda file: file.name)

    async def _load(self, key: str, size: int) -> bytes:
        if size > MAX_DOCUMENT_BYTES:
            raise Problem(ProblemType.TOO_LARGE, f"A document has at most {MAX_DOCUMENT_BYTES // 2**20} MiB.")
        with _told(self.bucket):
            return bytes(await (await self.store.get_async(key)).bytes_async())


def _holds(root: str, bucket: str, prefix: str) -> bool:
    scheme, _, rest = root.partition("://")
    allowed_bucket, _, allowed = rest.strip("/").partition("/")
    within = not allowed or prefix == allowed or prefix.startswith(f"{allowed}/")
    return scheme == "s3" and bucket == allowed_bucket and within and ".." not in prefix.split("/")


@contextmanager
def _told(bucket: str) -> Iterator[None]:
    """What the store says, as a Problem."""
    try:
        yield
    except BaseError as error:
        detail = f"The bucket '{bucket}' cannot be read: {str(error).strip().partition(chr(10))[0][:300]}"
        raise Problem(_kind(error), detail) from None


def _kind(error: BaseError) -> ProblemType:
    # For a listing the library tells the store's refusal only in words.
    found = STATUS.search(str(error))
    status = found.group(1) if found else ""
    if isinstance(error, NotFoundError) or status == "404":
        return ProblemType.NOT_FOUND
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or status in ("401", "403"):
        return ProblemType.SOURCE_REFUSED
    return ProblemType.SOURCE_UNAVAILABLE
