"""Follow-up questions without a language model: tell them, and give them the words that search needs.

A heuristic for English with a little German, French and Spanish. It looks for words that stand for something said
before, and puts the keywords of the earlier questions in front. The result reads like a note, but full-text search
finds its words and an embedding model its subject. What only the answers named, it does not see.
"""

import re
from collections.abc import Sequence
from typing import Final

from shared.analysis.terms import content_terms, keywords

__all__ = ["is_followup", "made_standalone"]

MOST_WORDS: Final = 12
FARTHEST: Final = 3
"""Earlier questions to look back at."""

LONGEST_WORD: Final = 40
LONGEST: Final = 1000
"""Characters from which on a question brings its own context."""

_POINTS_BACK = re.compile(
    r"\b(?:it|its|itself|they|them|their|theirs|he|him|his|she|hers|this|these|those|former|latter|the (?:same|other)s?"
    r"|(?:the|that|which|first|second|third|last|other|another) ones?"
    r"|ihn|ihm|ihnen|dieses?|diese[rmn]|dazu|davon|dar[uü]ber|daf[uü]r|damit|dort"
    r"|ils?|elles?|cela|ça|celui-ci|celle-ci"
    r"|ellos?|ellas?|eso|esto|aquello)\b"
    r"|\b(?:about|of|like|do|does|did|is|was|for|with|to|on|in|from|after|before) that\b(?! [a-z]+)"
    r"|\bthat\W*$",
    re.IGNORECASE,
)
_GOES_ON = re.compile(
    r"^\W*(?:and|but|or|so|also|what (?:about|if)|how about|why not|what else|und|aber|oder|et|mais|y|pero)\b",
    re.IGNORECASE,
)


def is_followup(question: str) -> bool:
    """Whether the question seems to need what was said before it."""
    if len(question) > LONGEST:
        return False
    return bool(_POINTS_BACK.search(question) or _GOES_ON.match(question)) or not content_terms(question)


def made_standalone(question: str, earlier: Sequence[str]) -> str:
    """The question as it is, or behind the keywords of the `earlier` ones, oldest first, that it seems to refer to."""
    if not is_followup(question):
        return question
    known = set(content_terms(question))
    found: list[str] = []
    for before in list(reversed(earlier))[:FARTHEST]:
        new = [word for word in keywords(before[:LONGEST]) if len(word) <= LONGEST_WORD]
        new = [word for word in new if not known.intersection(content_terms(word))]
        known.update(content_terms(" ".join(new)))
        found = new + found
        if new and not is_followup(before):
            break
    return f"{' '.join(found[:MOST_WORDS])}: {question}" if found else question
