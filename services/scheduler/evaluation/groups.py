"""Groups of questions that share documents: what of a set must stay together where it is split."""

from collections.abc import Iterable, Sequence

__all__ = ["folded", "grouped"]


def grouped(questions: Sequence[tuple[str, Iterable[str]]]) -> list[str]:
    """The name of each question's group, of questions with the names of their documents.

    Questions that share a document are in one group, directly or through others, and so are repetitions of a question.
    Its name is the first, in alphabetical order, of the documents in it; of a group without documents it is the
    question, folded.
    """
    groups = _Groups()
    documents = [tuple(named) for _, named in questions]
    members = [f"={folded(question)}" for question, _ in questions]
    for member, named in zip(members, documents, strict=True):
        groups.join([member, *(f"d{document}" for document in named)])
    first: dict[str, str] = {}
    for member, named in zip(members, documents, strict=True):
        root = groups.root(member)
        if named:
            first[root] = min([*named, *([first[root]] if root in first else [])])
    return [first.get(groups.root(member), member) for member in members]


def folded(question: str) -> str:
    """A question but for its case and spaces."""
    return " ".join(question.casefold().split())


class _Groups:
    """Disjoint sets with path halving (Tarjan and van Leeuwen, "Worst-case Analysis of Set Union Algorithms", 1984)."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def root(self, member: str) -> str:
        self._parents.setdefault(member, member)
        while (parent := self._parents[member]) != member:
            self._parents[member] = member = self._parents[parent]
        return member

    def join(self, members: Iterable[str]) -> None:
        first, *others = map(self.root, members)
        for other in others:
            self._parents[self.root(other)] = self.root(first)
