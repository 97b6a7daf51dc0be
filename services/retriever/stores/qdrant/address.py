"""Where a Qdrant server is, from the setting of the index: `qdrant://host:6333/prefix?shards=6&replicas=2`."""

import re
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import parse_qsl, urlsplit

__all__ = ["Address", "is_qdrant"]

SCHEMES: Final = {"qdrant": "http", "qdrants": "https"}
PORT: Final = 6333
PREFIX: Final = "sluice"

MOST_SHARDS: Final = 1_024
MOST_REPLICAS: Final = 32

_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A server, and how the names of the index's collections on it begin.

    `shards` and `replicas` are those of collections that are created; None leaves them to the server.
    """

    url: str
    prefix: str = PREFIX
    shards: int | None = None
    replicas: int | None = None

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Raises ValueError, which names no part of the URI that may be a secret."""
        parts = urlsplit(uri)
        if parts.username or parts.password:
            raise ValueError("the URI of the index names a user; give the API key as SLUICE_INDEX_API_KEY")
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise ValueError("the URI of the index is not like qdrant://host:6333/prefix or qdrants://host:6333/prefix")
        prefix = parts.path.strip("/") or PREFIX
        if not _PREFIX.fullmatch(prefix):
            raise ValueError("the path of the index's URI is not 1 to 64 letters, digits, _ and -")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        shards = _number(options.pop("shards", None), "shards", MOST_SHARDS)
        replicas = _number(options.pop("replicas", None), "replicas", MOST_REPLICAS)
        if options:
            raise ValueError(f"the URI of the index has unknown options: {', '.join(sorted(options))}")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        url = f"{SCHEMES[parts.scheme]}://{host}:{parts.port or PORT}"
        return cls(url=url, prefix=prefix, shards=shards, replicas=replicas)


def is_qdrant(uri: str) -> bool:
    """Whether the setting of the index names a Qdrant server."""
    return uri.startswith(tuple(f"{scheme}://" for scheme in SCHEMES))


def _number(given: str | None, name: str, most: int) -> int | None:
    if given is None:
        return None
    if not given.isdecimal() or not 1 <= int(given) <= most:
        raise ValueError(f"the option {name} of the index's URI is not a number from 1 to {most}")
    return int(given)
