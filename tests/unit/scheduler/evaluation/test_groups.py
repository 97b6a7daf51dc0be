from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.evaluation.groups import folded, grouped

documents = st.integers(0, 60).map("d{}".format)
words = st.sampled_from(["Who", "who ", "WHAT", "what", "Where is it", "where  is it", "why"])
questions = st.tuples(st.builds("{} {}?".format, words, st.integers(0, 40)), st.lists(documents, max_size=2).map(tuple))


@given(st.lists(questions, max_size=40))
def test_groups_share_no_document_and_no_question(some: list[tuple[str, tuple[str, ...]]]) -> None:
    group_of: dict[str, set[str]] = {}
    for (question, named), group in zip(some, grouped(some), strict=True):
        for member in (f"={folded(question)}", *named):
            group_of.setdefault(member, set()).add(group)
    assert all(len(groups) == 1 for groups in group_of.values())


@given(st.lists(questions, max_size=40))
def test_groups_do_not_depend_on_the_order(some: list[tuple[str, tuple[str, ...]]]) -> None:
    assert grouped(some[::-1])[::-1] == grouped(some)


def test_documents_that_a_chain_of_questions_connects_are_one_group() -> None:
    chain = [(f"q{n}", (f"d{n}", f"d{n + 1}")) for n in range(30)]
    assert set(grouped(chain)) == {"d0"}
    assert grouped([*chain[:10], *chain[20:]]) == ["d0"] * 10 + ["d20"] * 10


def test_a_question_without_documents_is_a_group_of_its_own_unless_it_is_repeated() -> None:
    assert grouped([("What?", ()), ("what ?", ()), ("WHY?", ("a",)), ("why?", ())]) == ["=what?", "=what ?", "a", "a"]
