"""The text around passages: which passage it goes to, and what of it an answer was made from."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from services.generator.engines.base import PromptPassage
from shared.analysis.chunks import join_chunks
from shared.contracts.envelope import Neighbour, Passage

__all__ = ["disjoint_contexts", "prompt_passages", "with_context_of"]

_Place = tuple[str, int]


def disjoint_contexts(passages: Sequence[Passage]) -> tuple[Passage, ...]:
    """The passages, with contexts in which no text is twice: what is a passage itself is no context of another one, and
    what lies between two goes to the better one. No context has a gap."""
    taken: set[_Place] = {(passage.document_id, passage.position) for passage in passages}
    made = []
    for passage in passages:
        around = {one.position: one for one in passage.context}
        before, after = (list(_free(passage, around, step, taken)) for step in (-1, 1))
        taken.update((passage.document_id, one.position) for one in (*before, *after))
        context = (*before[::-1], *after)
        made.append(passage.model_copy(update={"context": context}) if context != passage.context else passage)
    return tuple(made)


def prompt_passages(passages: Iterable[Passage]) -> tuple[PromptPassage, ...]:
    """As the answer cites them, each with its context."""
    return tuple(
        PromptPassage(
            index=index,
            text=_whole(passage),
            own=passage.text if passage.context else "",
            document=passage.document,
            document_id=passage.document_id,
            position=passage.position,
        )
        for index, passage in enumerate(passages, start=1)
    )


def with_context_of(passages: Iterable[Passage], joined: Collection[int]) -> tuple[Passage, ...]:
    """The passages, of which only those of these indices, counted from 1, keep their context."""
    return tuple(
        passage.model_copy(update={"context": ()}) if passage.context and index not in joined else passage
        for index, passage in enumerate(passages, start=1)
    )


def _free(passage: Passage, around: dict[int, Neighbour], step: int, taken: Collection[_Place]) -> Iterator[Neighbour]:
    position = passage.position + step
    while (one := around.get(position)) is not None and (passage.document_id, position) not in taken:
        yield one
        position += step


def _whole(passage: Passage) -> str:
    if not passage.context:
        return passage.text
    own = Neighbour(position=passage.position, text=passage.text)
    return join_chunks([one.text for one in sorted((*passage.context, own), key=lambda one: one.position)])
