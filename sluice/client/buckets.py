"""Models in object stores: credentials, region and endpoint are those of the environment, as the AWS command line takes
them."""

import os
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from sluice.client.errors import ModelSourceError
from sluice.client.tar import PackedFile

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["Bucket", "open_bucket"]

SCHEMES: Final = ("s3", "gs", "az")
PIECE: Final = 2**20
MOST_OBJECTS: Final = 1000
"""Objects below a prefix: more are a bucket, and no model."""

RETRIES: Final = 5
TIMEOUT: Final = timedelta(seconds=120)
"""For one request."""


def open_bucket(url: str) -> "Bucket":
    """What a URL such as s3://bucket/prefix names. Raises ModelSourceError."""
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.strip("/").partition("/")
    if scheme == "hf":
        command = "hf download ORG/NAME --revision COMMIT --local-dir FOLDER"
        raise ModelSourceError(
            f"Nothing is downloaded from a hub here. Do that first, and import the folder: {command}"
        )
    if scheme not in SCHEMES or not bucket:
        known = ", ".join(f"{name}://bucket/prefix" for name in SCHEMES)
        raise ModelSourceError(f"{url!r} is no source of models. Name a folder, a tar archive, or {known}.")
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ModuleNotFoundError:
        detail = "Reading buckets needs a library that is not installed here: pip install 'sluice[s3]'"
        raise ModelSourceError(detail) from None
    # Options that are given take the place of this variable.
    plain = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
    options: Any = {
        "client_options": {"timeout": TIMEOUT, "allow_http": plain},
        "retry_config": {"max_retries": RETRIES, "retry_timeout": TIMEOUT},
    }
    try:
        return Bucket(from_url(f"{scheme}://{bucket}", **options), f"{scheme}://{bucket}", prefix)
    except (BaseError, ValueError) as error:
        raise ModelSourceError(f"{url} cannot be used: {_first_line(error)}") from None


class Bucket:
    """A prefix of a bucket, or one object. Methods raise ModelSourceError with the store's own reason."""

    def __init__(self, store: "ObjectStore", url: str, prefix: str) -> None:
        self._store = store
        self._url = url
        self._prefix = prefix

    @property
    def is_archive(self) -> bool:
        """Whether it is one object, a tar archive of a model."""
        return self._prefix.endswith(".tar")

    def archive(self) -> Iterator[bytes]:
        """The bytes of the one object."""
        return self._read(self._prefix, None)

    def files(self) -> Iterator[PackedFile]:
        """The objects below the prefix but for hidden ones, in the order of their names."""
        start = f"{self._prefix}/" if self._prefix else ""
        sizes = {key: size for key, size in self._sizes().items() if key.startswith(start)}
        if not sizes:
            raise ModelSourceError(f"There is nothing below {self._url}/{self._prefix}.")
        # What consoles make for a folder is an object of no bytes with the folder's name.
        folders = {parent.as_posix() for key in sizes for parent in PurePosixPath(key).parents}
        for key, size in sorted(sizes.items()):
            if not size and key in folders:
                continue
            name = key.removeprefix(start)
            if not any(part.startswith(".") for part in name.split("/")):
                yield PackedFile(name=name, size=size, read=partial(self._read, key, size))

    def _sizes(self) -> dict[str, int]:
        import obstore
        from obstore.exceptions import BaseError

        sizes: dict[str, int] = {}
        try:
            for page in obstore.list(self._store, self._prefix or None):
                sizes |= {item["path"]: item["size"] for item in page}
                if len(sizes) > MOST_OBJECTS:
                    detail = (
                        f"{self._url}/{self._prefix} has more than {MOST_OBJECTS:,} objects. Name one model's prefix."
                    )
                    raise ModelSourceError(detail)
        except (BaseError, OSError) as error:
            raise ModelSourceError(f"{self._url}/{self._prefix} cannot be listed: {_first_line(error)}") from None
        return sizes

    def _read(self, key: str, size: int | None) -> Iterator[bytes]:
        """Where `size` is given, the object must still have it."""
        import obstore
        from obstore.exceptions import BaseError

        try:
            found = obstore.get(self._store, key)
            if size is not None and found.meta["size"] != size:
                raise ModelSourceError(f"{self._url}/{key} changed while it was read. Import it again.")
            for piece in found.stream(PIECE):
                yield bytes(piece)
        except (BaseError, OSError) as error:
            raise ModelSourceError(f"{self._url}/{key} cannot be read: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().partition("\n")[0] or repr(error))[:300]
