"""Who may see a document: the principals that it lists, and those that a reader carries.

A principal is a user or a group, written `user:alice` or `group:hr`. A document without a list is for everybody of its
tenant. A document with a list is for those alone who carry one of its principals, and for who carries ALL.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints

from shared.contracts.problems import Problem, ProblemType

__all__ = [
    "ALL",
    "EVERYBODY",
    "MOST_PRINCIPALS",
    "PRINCIPAL",
    "USER",
    "Allowed",
    "Principals",
    "check_allowed",
    "covers",
    "is_permitted",
    "is_principal",
    "normalized",
    "seen_by",
]

ALL: Final = "*"
"""What a reader carries who sees every document. No document lists it."""

EVERYBODY: Final = "public"
"""What a list says, alone, that takes an earlier list away: everybody of the tenant may see the document."""

USER: Final = "user:"
"""How the principal of a person begins."""

MOST_PRINCIPALS: Final = 256
"""Of a document, and of a reader."""

PRINCIPAL: Final = (
    r"[a-z][a-z0-9_-]{0,31}:[^\s\x00-\x1f\x7f-\x9f](?:[^\n\r\t\x00-\x1f\x7f-\x9f]{0,158}[^\s\x00-\x1f\x7f-\x9f])?"
)

_PRINCIPAL: Final = re.compile(PRINCIPAL)

ListedPrincipal = Annotated[str, StringConstraints(pattern=rf"^(?:{EVERYBODY}|{PRINCIPAL})$")]


def _alone(allowed: tuple[str, ...]) -> tuple[str, ...]:
    if EVERYBODY in allowed and len(allowed) > 1:
        raise ValueError(f"'{EVERYBODY}' stands alone")
    return allowed


Allowed = Annotated[tuple[ListedPrincipal, ...], Field(max_length=MOST_PRINCIPALS), AfterValidator(_alone)]
"""The list of a document as people write it: principals, or `public` alone. An empty one is for nobody but those who
manage documents."""

Principals: TypeAlias = tuple[str, ...]
"""What a reader carries. Nothing sees the documents without a list alone."""


def is_principal(text: str) -> bool:
    """Whether it is written as a principal is."""
    return _PRINCIPAL.fullmatch(text) is not None


def check_allowed(allowed: Iterable[str], where: str = "allowed") -> tuple[str, ...]:
    """The list in its one form: sorted, each principal once. Raises Problem INVALID_REQUEST."""
    listed = tuple(sorted(set(allowed)))
    if len(listed) > MOST_PRINCIPALS:
        raise _invalid(where, f"has more than {MOST_PRINCIPALS} principals")
    for one in listed:
        if one == EVERYBODY and len(listed) > 1:
            raise _invalid(where, f"has '{EVERYBODY}' beside principals; it stands alone")
        if one != EVERYBODY and not is_principal(one):
            raise _invalid(where, f"has {one[:80]!r}; write user:NAME, group:NAME or '{EVERYBODY}'")
    return listed


def normalized(allowed: Sequence[str]) -> tuple[str, ...] | None:
    """A list as records hold it: None for everybody."""
    return None if EVERYBODY in allowed else tuple(sorted(set(allowed)))


def is_permitted(allowed: Sequence[str] | None, principals: Collection[str]) -> bool:
    """Whether who carries these principals may see a document with this list; None is a document without one."""
    return allowed is None or ALL in principals or not set(principals).isdisjoint(allowed)


def seen_by(principals: Collection[str]) -> frozenset[str] | None:
    """The principals of a reader as stores take them: None for one who sees every document."""
    return None if ALL in principals else frozenset(principals)


def covers(principals: Collection[str], others: Collection[str]) -> bool:
    """Whether who carries `principals` sees everything that who carries `others` sees."""
    return ALL in principals or (ALL not in others and set(others) <= set(principals))


def _invalid(where: str, what: str) -> Problem:
    return Problem(ProblemType.INVALID_REQUEST, f"The list '{where}' {what}.")
