"""Other forms of a question, made by rules and always the same: typing mistakes, and paraphrases by WordNet.

The paraphrases are mechanical: up to two words give way to a synonym of their most frequent sense, and the question
gets another frame ("How do I X?" becomes "what is the way to X"). They test words, not understanding.
"""

import random
import re
from functools import cache
from typing import Final

from benchmarks.quality.corpora.packages import package

__all__ = ["paraphrase", "typos"]

NEIGHBOURS: Final = {
    "q": "wa", "w": "qes", "e": "wrd", "r": "etf", "t": "ryg", "y": "tuh", "u": "yij", "i": "uok", "o": "ipl",
    "p": "ol", "a": "qsz", "s": "adwx", "d": "sfec", "f": "dgrv", "g": "fhtb", "h": "gjyn", "j": "hkum",
    "k": "jlim", "l": "kop", "z": "xas", "x": "zcsd", "c": "xvdf", "v": "cbfg", "b": "vngh", "n": "bmhj",
    "m": "njk",
}  # fmt: skip
"""Keys beside each other on an English keyboard."""

LEAST_LETTERS: Final = 5
FRAMES: Final = (
    (r"(how )?(do|can|could|should|would) (i|you|we|one) (?P<rest>.+)", "{how}to {rest}"),
    (r"(how to|how) (?P<rest>.+)", "what is the way to {rest}"),
    (r"what( is|'s) the difference between (?P<rest>.+)", "compare {rest}"),
    (r"what (is|are) (?P<rest>.+)", "explain {rest}"),
    (r"why (is|are|do|does|did|am|was) (?P<rest>.+)", "what is the reason that {rest}"),
    (r"(is|are) there (?P<rest>.+)", "does anybody offer {rest}"),
    (r"where (can i|do i|is|are) (?P<rest>.+)", "at which place {rest}"),
)


def typos(text: str) -> str:
    """One mistake in every second longer word, and in one at least: a letter changed for its neighbour, left out,
    doubled, or two letters swapped. Words with digits or capitals inside stay as they are."""
    chance = random.Random(f"typos/{text}")
    words = re.split(r"(\W+)", text)
    places = [n for n, word in enumerate(words) if len(word) >= LEAST_LETTERS and word.isascii() and word[1:].islower()]
    chosen = set(chance.sample(places, max(1, len(places) // 2))) if places else set()
    return "".join(_mistyped(word, chance) if n in chosen else word for n, word in enumerate(words))


def _mistyped(word: str, chance: random.Random) -> str:
    place = chance.randrange(1, len(word) - 1)
    letter = word[place]
    match chance.randrange(4):
        case 0:
            other = chance.choice(NEIGHBOURS.get(letter, letter))
            return word[:place] + other + word[place + 1 :]
        case 1:
            return word[:place] + word[place + 1 :]
        case 2:
            return word[:place] + letter + word[place:]
        case _:
            return word[:place] + word[place + 1] + letter + word[place + 2 :]


def paraphrase(text: str) -> str | None:
    """The question in other words, None where neither a synonym nor another frame is known."""
    chance = random.Random(f"paraphrase/{text}")
    words = re.split(r"(\W+)", text)
    options = [(n, found) for n, word in enumerate(words) if (found := synonyms().get(word))]
    for n, found in chance.sample(options, min(2, len(options))):
        words[n] = chance.choice(found)
    framed = _framed("".join(words).strip())
    return framed if framed.lower() != text.strip().lower() else None


def _framed(text: str) -> str:
    bare = text.rstrip("?. ")
    for pattern, frame in FRAMES:
        if match := re.fullmatch(pattern, bare, re.IGNORECASE | re.DOTALL):
            how = "the way " if match[0].lower().startswith("how") else "is it possible "
            return frame.format(how=how, rest=match["rest"])
    return text


@cache
def synonyms() -> dict[str, list[str]]:
    """Nouns, verbs and adjectives with the other single words of their most frequent sense (WordNet 3.0)."""
    folder = package("wordnet-base") / "usr/share/wordnet"
    found: dict[str, list[str]] = {}
    for part in ("noun", "verb", "adj"):
        senses = {}
        for line in (folder / f"data.{part}").read_text("utf-8", "replace").splitlines():
            if not line.startswith(" "):
                fields = line.split(" ", 4)
                lemmas = fields[4].split(" ")[: int(fields[3], 16) * 2 : 2]
                senses[fields[0]] = [lemma for lemma in lemmas if lemma.isalpha() and lemma.islower()]
        for line in (folder / f"index.{part}").read_text("utf-8", "replace").splitlines():
            word, *rest = line.split()
            if line.startswith(" ") or not word.isalpha() or len(word) < LEAST_LETTERS - 1:
                continue
            first = rest[-int(rest[1])]
            if others := [lemma for lemma in senses.get(first, ()) if lemma != word]:
                found.setdefault(word, others)
    return found
