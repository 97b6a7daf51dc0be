"""Rows of a search result."""

from services.retriever.stores.lance.rows import Row, without_outdated


def row(document: str, position: int, revision: int) -> Row:
    return {"id": f"{document}:{position}", "document_id": document, "revision": revision}


def test_of_a_document_that_shows_two_revisions_the_later_one_stays() -> None:
    before = [row("a", 0, 1), row("a", 9, 1), row("b", 0, 5)]
    after = [row("b", 0, 5), row("a", 0, 2), row("a", 1, 2)]
    assert without_outdated(before, after) == [[row("b", 0, 5)], after]
    assert without_outdated(after, before) == [after, [row("b", 0, 5)]]


def test_rankings_of_one_revision_stay_as_they_are() -> None:
    ranking = [row("a", 1, 3), row("a", 0, 3), row("b", 0, 1)]
    assert without_outdated(ranking, []) == [ranking, []]
