"""Which version of a collection a question asks."""

import time

import pytest

from services.gateway.canaries.selection import choose_version, shadowed_version
from shared.contracts.collections import Collection, CollectionVersion, VersionCanary, VersionState

KEYS = [f"conversation-{number}" for number in range(4000)]


def collection(
    percent: float, *, shadow: float = 0, state: VersionState = VersionState.FOLLOWING, seconds: float = 60
) -> Collection:
    versions = (
        CollectionVersion(name="v1", table="t1", state=VersionState.LIVE, created_at=0),
        CollectionVersion(name="v2", table="t2", state=state, created_at=0, embedding_variant="tuned"),
    )
    canary = VersionCanary(version="v2", percent=percent, shadow=shadow, job="watch", until=time.time() + seconds)
    return Collection(name="docs", id="docs-1", table="t1", versions=versions, canary=canary, created_at=0)


def chosen(collection: Collection) -> set[str]:
    """The conversations that ask the canary."""
    return {key for key in KEYS if choose_version(collection, key)[0].table == "t2"}


def test_the_canary_gets_its_share_of_the_conversations() -> None:
    assert len(chosen(collection(25))) == pytest.approx(1000, abs=120)
    assert len(chosen(collection(100))) == len(KEYS)


def test_a_growing_share_moves_nobody_away_from_the_canary() -> None:
    assert chosen(collection(5)) < chosen(collection(25)) < chosen(collection(50))


def test_both_sides_are_part_of_the_canary_and_its_side_is_asked_as_that_version_is() -> None:
    found = [choose_version(collection(50), key) for key in KEYS[:50]]
    assert {(one.queried.name, one.embedding_variant, job) for one, job in found} == {
        ("v1", "default", "watch"),
        ("v2", "tuned", "watch"),
    }


def test_a_share_that_nobody_renews_ends_by_itself() -> None:
    given = collection(100, seconds=-1)
    assert choose_version(given, "a") == (given, "")


@pytest.mark.parametrize("state", [VersionState.READY, VersionState.LEAVING, VersionState.BUILDING])
def test_a_version_that_does_not_follow_the_live_one_is_asked_nothing(state: VersionState) -> None:
    given = collection(100, state=state)
    assert choose_version(given, "a") == (given, "")


def test_a_request_that_names_a_version_is_in_no_canary() -> None:
    given = collection(100).as_if("v1")
    assert choose_version(given, "a") == (given, "")


def test_a_version_in_the_shadow_gets_copies_of_its_share_and_answers_nothing() -> None:
    given = collection(0, shadow=25)
    assert chosen(given) == set()
    copies = [copy for key in KEYS if (copy := shadowed_version(given, key)) is not None]
    assert len(copies) == pytest.approx(1000, abs=120)
    assert {(one.queried.name, one.embedding_variant) for one in copies} == {("v2", "tuned")}


@pytest.mark.parametrize(
    "given",
    [
        collection(50),
        collection(0, shadow=100, seconds=-1),
        collection(0, shadow=100, state=VersionState.READY),
        collection(0, shadow=100).as_if("v1"),
    ],
)
def test_without_a_shadow_there_are_no_copies(given: Collection) -> None:
    assert shadowed_version(given, "a") is None
