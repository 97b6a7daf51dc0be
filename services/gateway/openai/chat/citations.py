"""Citations like `[2]` in an answer as annotations of OpenAI's kind `url_citation`."""

import re
from collections.abc import Container, Iterator, Sequence
from typing import Final
from urllib.parse import quote

from services.gateway.openai.responses import Annotation, UrlCitation
from shared.contracts.envelope import Passage

__all__ = ["annotations"]

MARKER: Final = re.compile(r"`|\[(\d+(?: *[,;] *\d+)*)\]")
LINKS: Final = ("url", "source_url")
"""Metadata in which a document may say where it comes from."""


def annotations(text: str, sources: Sequence[Passage], cited: Container[int], collection: str) -> list[Annotation]:
    """One annotation for each source that a marker outside of code names, in the order of the text."""
    return [
        Annotation(
            type="url_citation",
            url_citation=UrlCitation(
                url=_url(sources[number - 1], collection),
                title=sources[number - 1].document,
                start_index=start,
                end_index=end,
            ),
        )
        for number, start, end in _markers(text)
        if number in cited and 1 <= number <= len(sources)
    ]


def _markers(text: str) -> Iterator[tuple[int, int, int]]:
    code = False
    for match in MARKER.finditer(text):
        if match[0] == "`":
            code = not code
        elif not code:
            for number in re.findall(r"\d+", match[1]):
                yield int(number), match.start(), match.end()


def _url(passage: Passage, collection: str) -> str:
    for name in LINKS:
        link = passage.metadata.get(name)
        if isinstance(link, str) and link.startswith(("http://", "https://")):
            return link
    return f"sluice://{collection}/{quote(passage.document)}"
