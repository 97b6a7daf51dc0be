from services.scheduler.datasets.prompt_passages import as_columns, prompt_passages
from shared.contracts.envelope import Passage

RANKED = [
    Passage(id=f"p{n}", document_id=f"d{n}", document=f"d{n}", position=0, text=f"Passage {n}.") for n in range(1, 9)
]


def shown(*right: str, without: tuple[str, ...] = ()) -> list[str]:
    passages = [Passage(id=name, document_id=name, document=name, position=0, text=name) for name in right]
    return [one.id for one in prompt_passages(RANKED, passages, lambda one: one.id not in without)]


def test_a_prompt_shows_the_right_passages_where_the_search_has_ranked_them() -> None:
    assert shown("p2") == ["p1", "p2", "p3", "p4", "p5"]
    assert shown("p8") == ["p1", "p2", "p3", "p4", "p8"]


def test_what_the_search_has_not_found_comes_last_and_takes_a_place() -> None:
    assert shown("far") == ["p1", "p2", "p3", "p4", "far"]


def test_passages_that_may_not_be_shown_are_replaced_by_the_next_ones() -> None:
    assert shown("p2", without=("p1", "p3")) == ["p2", "p4", "p5", "p6", "p7"]


def test_all_right_passages_are_shown_however_many_there_are() -> None:
    assert shown("p1", "p2", "p3", "p6", "p7", "p8") == ["p1", "p2", "p3", "p6", "p7", "p8"]


def test_the_columns_number_what_answers_the_question() -> None:
    columns = as_columns(RANKED[:3], ["d3", "d1"])
    assert columns == {
        "passages": ("Passage 1.", "Passage 2.", "Passage 3."),
        "sources": ("d1", "d2", "d3"),
        "cited": (1, 3),
    }
