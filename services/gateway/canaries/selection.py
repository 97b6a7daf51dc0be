"""Which version of a collection a question asks while another one is a canary."""

import time

from shared.contracts.collections import Collection, VersionCanary, VersionState
from shared.contracts.draws import uniform

__all__ = ["choose_version", "shadowed_version"]


def choose_version(collection: Collection, key: str) -> tuple[Collection, str]:
    """The collection as the question asks it, and the job of the canary that this was chosen in, "" for none.

    The same key gets the same version for as long as the canary's share stays. A growing share moves only questions to
    the canary, and none away from it. A request that names a version is in no canary.
    """
    canary = _canary(collection)
    if canary is None:
        return collection, ""
    drawn = uniform(collection.id, canary.version, key) < canary.percent / 100
    return (collection.as_if(canary.version) if drawn else collection), canary.job


def shadowed_version(collection: Collection, key: str) -> Collection | None:
    """The collection as a copy of the question asks it, whose answer nobody sees; None for no copy."""
    canary = _canary(collection)
    if canary is None or uniform(collection.id, canary.version, key) >= canary.shadow / 100:
        return None
    return collection.as_if(canary.version)


def _canary(collection: Collection) -> VersionCanary | None:
    """The canary that a question may be part of."""
    canary = collection.canary
    if canary is None or collection.chosen is not None or time.time() >= canary.until:
        return None
    version = collection.find(canary.version)
    return canary if version is not None and version.state is VersionState.FOLLOWING else None
