"""Whose the spans of a trace are. A client chooses the id of its trace, so several tenants may share one."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

__all__ = ["Ancestry", "spans_of"]

T = TypeVar("T")


class Ancestry(NamedTuple):
    """The ids of a span and its parent, and the tenant that the span itself names, if any."""

    span_id: object
    parent_id: object | None
    tenant: str | None


def spans_of(tenant: str, spans: Iterable[T], ancestry: Callable[[T], Ancestry]) -> list[T]:
    """The tenant's own spans, and those that name no tenant below them.

    A span that names none belongs to the nearest span above it that names one. Where that has been forgotten, it
    belongs to the tenant only if every named span of the trace is the tenant's.
    """
    listed = [(span, ancestry(span)) for span in spans]
    above = {own.span_id: own for _, own in listed}
    named = {own.tenant for own in above.values()} - {None}
    unknown = tenant if named == {tenant} else None
    return [span for span, own in listed if _owner(own, above, unknown) == tenant]


def _owner(own: Ancestry, above: dict[object, Ancestry], unknown: str | None) -> str | None:
    seen = set()
    while own.tenant is None:
        seen.add(own.span_id)
        parent = above.get(own.parent_id)
        if parent is None or parent.span_id in seen:
            return unknown
        own = parent
    return own.tenant
