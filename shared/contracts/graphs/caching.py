"""What steps have added to an envelope, kept for the next one like it. Pure: no I/O."""

import hashlib
from typing import Any, Final

from pydantic import JsonValue
from pydantic_core import to_json

from shared.contracts.envelope import Hop, Query
from shared.contracts.graphs.conditions import FAILED, value_of
from shared.contracts.graphs.nodes import Cache, Keep
from shared.contracts.graphs.resolve import SHADOW_OF
from shared.contracts.results import Results
from shared.contracts.wire import Wire

__all__ = ["CACHE", "Kept", "begun", "restored", "taken"]

CACHE: Final = "cache"
"""The stage in the trail of an envelope that was completed from the cache."""

WHOLE: Final = ("question", "messages", "embedding", "passages")
"""The members of an envelope that stages replace."""

ADDED: Final = (*WHOLE, "results", "notes")
"""All members that stages change."""

OWNER: Final = ("tenant", "collection", "collection_id", "collection_version", "release", "principals")
"""Whose envelope it is, and of what: never taken for another's."""

SEEN: Final = (*ADDED, "metadata", "lane")
"""What else the steps can see."""


class Kept(Wire):
    """What steps have changed of an envelope: members as a whole; of notes, results and branches those by name."""

    members: dict[str, Any] = {}
    notes: dict[str, JsonValue] = {}
    results: dict[str, Any] = {}
    branches: dict[str, Any] = {}


def begun(query: Query, cache: Cache) -> tuple[str, Query]:
    """The key of the record for the cache at the head of the slip, and the envelope with the steps that fill it.

    Raises Problem STAGE_FAILED for a key that cannot be evaluated.
    """
    steps = [step.model_dump(mode="json") for step in cache.steps]
    known = [value_of(cache.key, query)] if cache.key else _seen(query)
    # With the time, as another cache of the same steps may keep them for longer than this one allows.
    # Nobody sees what comes of a shadow, and a shadow does its own work: its records are not those of live queries.
    record = _digest([_dump(query, OWNER), SHADOW_OF in query.notes, steps, cache.seconds, known])
    before = {name: _digest(value) for name, (_, _, value) in _parts(query).items()}
    keep = Keep(record=record, seconds=cache.seconds, before=before)
    return record, query.model_copy(update={"slip": (*cache.steps, keep.stop(), *query.slip[1:])})


def restored(query: Query, kept: Kept) -> Query:
    """The envelope after the cache at the head of its slip, as the steps left the one that was kept.

    Raises pydantic.ValidationError for what another version has kept.
    """
    hop = Hop(stage=CACHE, variant="default", worker="", waited_ms=0.0, worked_ms=0.0)
    known = query.model_dump(mode="json")
    results = known["results"] or {}
    branches = {**results.get("branches", {}), **kept.branches}
    added = {**kept.members, "notes": {**known["notes"], **kept.notes}}
    if kept.results or kept.branches:
        added["results"] = {**results, **kept.results, "branches": branches}
    whole = Query.model_validate({**known, **added})
    update = {name: getattr(whole, name) for name in added}
    return query.model_copy(update={**update, "slip": query.slip[1:], "trail": (*query.trail, hop)})


def taken(query: Query, keep: Keep) -> Kept | None:
    """What the steps have added to the envelope that has come to their end; None where some of it failed, in a fallback
    or a branch: the next query may have better luck."""
    branches = query.results.branches.values() if query.results else ()
    if FAILED in query.notes or any(branch.failed for branch in branches):
        return None
    added: dict[str, dict[str, Any]] = {}
    for known_as, (group, name, value) in _parts(query).items():
        if _digest(value) != keep.before.get(known_as):
            added.setdefault(group, {})[name] = value
    return Kept(**added)


def _parts(query: Query) -> dict[str, tuple[str, str, Any]]:
    """All that steps may change: the member of Kept that it belongs to, its name there, and its value."""
    results = (query.results or Results()).model_dump(mode="json")
    branches = results.pop("branches")
    notes = query.model_dump(mode="json", include={"notes"})["notes"]
    groups = {"members": _dump(query, WHOLE), "notes": notes, "results": results, "branches": branches}
    return {
        f"{group}:{name}": (group, name, value) for group, all_of in groups.items() for name, value in all_of.items()
    }


def _seen(query: Query) -> Any:
    """Of a shadow, not whose it is: else no record of it would be of use to any other."""
    seen = _dump(query, SEEN)
    seen["notes"].pop(SHADOW_OF, None)
    return seen


def _dump(query: Query, members: tuple[str, ...]) -> dict[str, Any]:
    return query.model_dump(mode="json", include=set(members))


def _digest(value: Any) -> str:
    return hashlib.sha256(to_json(value)).hexdigest()[:32]
