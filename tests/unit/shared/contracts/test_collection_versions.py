import pytest

from shared.contracts.collections import Collection, CollectionVersion, VersionState
from shared.contracts.retrieval import RetrievalOptions


@pytest.fixture
def collection() -> Collection:
    """One whose version `tuned` is on the table of the live one."""
    made = Collection.model_validate({"name": "docs", "table": "docs-1", "created_at": 1.0})
    tuned = CollectionVersion(
        name="tuned",
        table="docs-1",
        state=VersionState.READY,
        created_at=2.0,
        retrieval=RetrievalOptions(dense_weight=0.4),
        rerank_candidates=20,
    )
    return made.adding(tuned)


def test_a_version_that_shares_a_table_is_asked_with_its_own_options(collection: Collection) -> None:
    asked = collection.as_if("tuned")
    assert (asked.table, asked.retrieval.dense_weight, asked.queried.rerank_candidates) == ("docs-1", 0.4, 20)
    assert (collection.retrieval.dense_weight, collection.queried.rerank_candidates) == (None, 0)


def test_the_version_that_a_question_asks_is_never_stored(collection: Collection) -> None:
    assert Collection.model_validate_json(collection.as_if("tuned").model_dump_json()).queried.name == "v1"


def test_a_switch_and_the_way_back_keep_the_table(collection: Collection) -> None:
    there = collection.switched("tuned", keep=1)
    assert (there.live.name, there.table, there.retrieval.dense_weight) == ("tuned", "docs-1", 0.4)
    back = there.switched("v1", keep=1)
    assert (back.live.name, back.table, back.retrieval) == ("v1", "docs-1", RetrievalOptions())
    assert [version.name for version in back.on("docs-1")] == ["v1", "tuned"]
