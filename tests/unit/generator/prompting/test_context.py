"""Which text goes to which passage, where the contexts of several meet."""

from services.generator.prompting.context import disjoint_contexts, prompt_passages, with_context_of
from shared.contracts.envelope import Neighbour, Passage


def text(position: int) -> str:
    return f"Title\n\nSentence {position} is here. Sentence {position + 1} is here."


def passage(position: int, *around: int, document: str = "a") -> Passage:
    context = tuple(Neighbour(position=one, text=text(one)) for one in around)
    return Passage(
        id=f"{document}:{position}",
        document_id=document,
        document=f"{document}.md",
        position=position,
        text=text(position),
        context=context,
    )


def positions(*passages: Passage) -> list[list[int]]:
    return [[one.position for one in made.context] for made in disjoint_contexts(passages)]


def test_a_passage_is_no_context_of_another_one() -> None:
    assert positions(passage(3, 2, 4), passage(4, 3, 5)) == [[2], [5]]


def test_what_lies_between_two_goes_to_the_better_one() -> None:
    assert positions(passage(5, 4, 6), passage(3, 2, 4)) == [[4, 6], [2]]


def test_a_context_ends_where_another_passage_begins() -> None:
    assert positions(passage(3, 1, 2, 4, 5), passage(4, 2, 3, 5, 6)) == [[1, 2], [5, 6]]


def test_a_context_has_no_gap() -> None:
    assert positions(passage(3, 1, 5)) == [[]]


def test_documents_do_not_share_their_contexts() -> None:
    assert positions(passage(3, 2, 4), passage(4, 3, 5, document="b")) == [[2, 4], [3, 5]]


def test_a_passage_and_what_is_around_it_are_one_text_without_repetition() -> None:
    (made,) = prompt_passages([passage(3, 2, 4)])
    assert made.text == "Title\n\n" + " ".join(f"Sentence {n} is here." for n in (2, 3, 4, 5))
    assert (made.own, made.index, made.position, made.document_id) == (text(3), 1, 3, "a")
    assert (made.alone.text, made.alone.own) == (text(3), "")


def test_a_passage_without_context_is_itself() -> None:
    (made,) = prompt_passages([passage(3)])
    assert (made.text, made.own) == (text(3), "")
    assert made.alone is made


def test_only_the_named_passages_keep_their_context() -> None:
    kept = with_context_of([passage(3, 2), passage(9, 8)], [2])
    assert [[one.position for one in made.context] for made in kept] == [[], [8]]
