"""What people may write where a pattern says it: nobody should have to read a regular expression."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic_core import ErrorDetails

from shared.contracts.collections import VersionName
from shared.contracts.envelope import Name, Tenant
from shared.contracts.keys import CollectionPattern
from shared.contracts.principals import PRINCIPAL, ListedPrincipal

__all__ = ["message_of"]


def _pattern(kind: Any) -> str:
    pattern: str = TypeAdapter(kind).json_schema()["pattern"]
    return pattern


WORDS: Final[Mapping[str, str]] = {
    _pattern(ListedPrincipal): "Use a kind and a name such as user:alice or group:hr, or public alone",
    rf"^(?:\*|{PRINCIPAL})$": "Use a kind and a name such as user:alice or group:hr, or * for every document",
    r"^[ -~]+$": "Use letters without accents, digits, spaces and punctuation",
    _pattern(Tenant): "Use letters without accents, digits, - and _, at most 64, beginning with a letter or a digit",
    _pattern(CollectionPattern): "Use a-z, 0-9, - and _, with * and ? as wildcards, at most 48",
    _pattern(VersionName): "Use a-z, 0-9, ., - and _, at most 48, beginning with a letter or a digit",
    _pattern(Name): "Use a-z, 0-9 and -, at most 32, beginning with a letter",
    r"^[A-Za-z0-9_-]{1,64}$": "Use letters without accents, digits, - and _, at most 64",
    r"^[a-z0-9][a-z0-9_-]{0,62}$": "Use a-z, 0-9, - and _, at most 63, beginning with a letter or a digit",
    r"^[a-z][a-z0-9_]{0,40}$": "Use a-z, 0-9 and _, at most 41, beginning with a letter",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "Use letters without accents, digits and _, beginning with no digit",
    r"^[0-9]+(\.[0-9]+)?(m|k|[KMGTPE]i?)?$": "Use a number such as 4, 500m or 16Gi",
}
"""By pattern."""


def message_of(error: ErrorDetails) -> str:
    """What is wrong, in words."""
    if error["type"] != "string_pattern_mismatch":
        return error["msg"]
    return WORDS.get(error.get("ctx", {}).get("pattern", ""), error["msg"])
