"""Answers with their citations, and search results."""

import re
from collections.abc import Container, Iterator, Sequence
from typing import Final

from sluice.api.queries import Answer, Source, Sources
from sluice.notebook.markup import Markup, badge, cut, element, foreign, join, muted, numbers
from sluice.units import counted

__all__ = ["answer", "passage", "results"]

LONGEST_ANSWER: Final = 20_000
LONGEST_PASSAGE: Final = 3_000
"""Characters that are shown."""
MOST_SOURCES: Final = 20
MOST_SENTENCES: Final = 10

_CITATION: Final = re.compile(r"\[(\d{1,3})\]")


def answer(shown: Answer, *, complete: bool = True) -> Markup:
    """The text, what speaks against trusting it, and its sources, in bold those that it cites."""
    text = element("div", *_prose(shown), class_="prose", dir="auto")
    if not complete:
        return join((text, muted("…"), *_sources(shown.sources, ())))
    notes = [element("div", note) for note in _notes(shown)]
    return join(
        (text, *notes, *_unsupported(shown), *_sources(shown.sources, shown.cited), element("div", _cost(shown)))
    )


def results(found: Sources) -> Markup:
    """Search results without an answer."""
    if not found.sources:
        return muted("Nothing was found.")
    return join(_sources(found.sources, ()))


def passage(source: Source, *, cited: bool = False) -> Markup:
    """A passage that opens on a click, under the line that says where it is from."""
    name = element("b" if cited else "span", f"[{source.index}] ", foreign(source.document))
    where = muted(f" #{source.position} · {source.score:.3f}{' · cited' if cited else ''}")
    parts = [_quote(source.text)]
    if source.copies:
        copies = ", ".join(f"{copy.document} #{copy.position}" for copy in source.copies)
        parts.append(element("div", muted("The same text: ", foreign(copies, 500))))
    if source.context:
        around = "\n\n".join(neighbour.text for neighbour in source.context)
        parts.append(element("details", element("summary", muted("text around it")), _quote(around)))
    if source.metadata:
        about = ", ".join(f"{name}: {value}" for name, value in source.metadata.items())
        parts.append(element("div", muted(foreign(about, 500))))
    return element("details", element("summary", name, where), *parts)


def _quote(text: str) -> Markup:
    return element("blockquote", cut(text, LONGEST_PASSAGE), dir="auto")


def _prose(shown: Answer) -> Iterator[Markup]:
    """The answer's text, in which citations stand out and sentences without support are underlined."""
    text, at = shown.answer, 0
    known = {source.index: source for source in shown.sources}
    doubtful = [one for one in shown.supported if not one.supported]
    for one in sorted(doubtful, key=lambda sentence: sentence.start):
        if at <= one.start < one.end <= min(len(text), LONGEST_ANSWER):
            yield _cited(text[at : one.start], known)
            said = _cited(text[one.start : one.end], known)
            yield element("span", said, class_="doubt", title="No source supports this sentence")
            at = one.end
    yield _cited(cut(text[at:], LONGEST_ANSWER - at), known)


def _cited(text: str, known: dict[int, Source]) -> Markup:
    pieces: list[str] = []
    at = 0
    for match in _CITATION.finditer(text):
        source = known.get(int(match[1]))
        if source is not None:
            title = cut(f"{source.document} #{source.position}", 200)
            pieces += [text[at : match.start()], element("b", match[0], title=title)]
            at = match.end()
    return join((*pieces, text[at:]))


def _notes(shown: Answer) -> Iterator[Markup]:
    if not shown.answer:
        yield muted("The answer is empty.")
    if shown.confidence is not None:
        yield muted(f"confidence {shown.confidence:.2f}")
    if shown.answerable is False:
        yield badge("no source seems to answer the question", "warn")
    if shown.finish == "length":
        yield badge("the answer reached its limit and is cut off", "warn")
    context = shown.context
    if context.dropped:
        yield badge(f"{numbers(context.dropped)} did not fit into the context window", "warn")
    if context.shortened:
        yield badge(f"only the first sentences of {numbers(context.shortened)} fitted", "warn")


def _unsupported(shown: Answer) -> Iterator[Markup]:
    """The sentences that no source supports, also those that were left out of the answer."""
    doubtful = [one for one in shown.supported if not one.supported]
    if not doubtful:
        return
    lines = []
    for one in doubtful[:MOST_SENTENCES]:
        left_out = " (left out of the answer)" if one.start == one.end else ""
        lines.append(element("li", foreign(one.sentence, 500), muted(f" {one.score:.2f}{left_out}")))
    if len(doubtful) > MOST_SENTENCES:
        lines.append(element("li", muted(f"and {len(doubtful) - MOST_SENTENCES:,} more")))
    summary = element("summary", badge(f"no source supports {counted(len(doubtful), 'sentence')}", "warn"))
    yield element("details", summary, element("ul", *lines), open=True)


def _sources(sources: Sequence[Source], cited: Container[int]) -> Iterator[Markup]:
    for source in sources[:MOST_SOURCES]:
        yield passage(source, cited=source.index in cited)
    if len(sources) > MOST_SOURCES:
        yield element("div", muted(f"and {len(sources) - MOST_SOURCES:,} more sources"))


def _cost(shown: Answer) -> Markup:
    parts = [f"{shown.timings.total_ms:,.0f} ms"] if shown.timings.total_ms else []
    if shown.usage.completion_tokens:
        parts.append(f"{counted(shown.usage.prompt_tokens, 'token')} read, {shown.usage.completion_tokens:,} written")
    parts += [cut(name, 200) for name in (shown.engine, shown.model) if name]
    return muted(" · ".join(parts))
