"""Sentences with a known verdict: facts in one wording in the passages, and in another one in the answer.

Each fact is of a kind (who built a thing, what a code means ...) with two wordings. A passage has several facts of one
thing. An answer's sentence restates a fact, or it invents: another value, the value of another thing, a fact of a kind
that the passages do not have. Kinds of one half are used to choose thresholds, and those of the other to report.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from services.generator.engines.base import PromptPassage

__all__ = ["Case", "cases"]

PEOPLE: Final = (
    "Ottilie Brandt|Ilse Varga|Tomas Lind|Nora Feld|Emil Sato|Greta Holm|Jonas Weber|Mira Osei|Ada Kowal|Ben Ruiz"
)
TOWNS: Final = "Sundsholm|Rauma|Velden|Karst|Opava|Tarn|Lisse|Norberg|Ystad|Malin"
STUFF: Final = "granite|oak|copper|slate|brick|glass|limestone|steel|pine|marble"
THINGS: Final = (
    "the blue lamp|the north pier|the old mill|the Njord ferry|the reading room|the salt store|the harbour crane|"
    "the signal tower|the fish market|the rope walk"
)
NUMBER: Final = "#"


@dataclass(frozen=True, slots=True)
class Kind:
    """`said` is the wording of the passages, `restated` those of answers; {t} is the thing and {v} the value."""

    said: str
    restated: tuple[str, ...]
    values: str


KINDS: Final = (
    Kind(
        "{t} was built by {v}.",
        ("The builder of {t} was {v}.", "{v} built {t}.", "It was {v} who constructed {t}."),
        PEOPLE,
    ),
    Kind(
        "{t} opened in {v}.",
        (
            "It was in {v} that {t} was opened.",
            "{t} has been open since {v}.",
            "The doors of {t} were first opened in {v}.",
        ),
        NUMBER,
    ),
    Kind(
        "{t} stands in {v}.",
        ("You find {t} in {v}.", "The town where {t} stands is {v}.", "{t} can be seen in {v}."),
        TOWNS,
    ),
    Kind(
        "The walls of {t} are made of {v}.",
        ("{t} has walls of {v}.", "For its walls, {t} uses {v}.", "{v} was used to build the walls of {t}."),
        STUFF,
    ),
    Kind(
        "{t} holds {v} people.",
        (
            "Up to {v} people fit into {t}.",
            "{t} has room for {v} people.",
            "As many as {v} visitors can be inside {t}.",
        ),
        NUMBER,
    ),
    Kind(
        "The keeper of {t} is {v}.",
        ("{v} looks after {t}.", "{t} is kept by {v}.", "The person responsible for {t} is {v}."),
        PEOPLE,
    ),
    Kind(
        "A visit to {t} costs {v} crowns.",
        (
            "To visit {t} one pays {v} crowns.",
            "The price of a visit to {t} is {v} crowns.",
            "Visitors pay {v} crowns to see {t}.",
        ),
        NUMBER,
    ),
    Kind(
        "Goods for {t} come from {v}.",
        (
            "{t} gets its goods from {v}.",
            "The goods of {t} arrive from {v}.",
            "{v} is where {t} receives its goods from.",
        ),
        TOWNS,
    ),
    Kind(
        "{t} was repaired by {v} after the storm.",
        (
            "After the storm, {v} repaired {t}.",
            "The repairs of {t} after the storm were done by {v}.",
            "{v} fixed {t} when the storm was over.",
        ),
        PEOPLE,
    ),
    Kind(
        "The roof of {t} is of {v}.",
        ("{t} has a {v} roof.", "{v} covers the roof of {t}.", "On top, {t} is covered with {v}."),
        STUFF,
    ),
    Kind(
        "{t} is {v} metres high.",
        (
            "The height of {t} is {v} metres.",
            "{t} reaches a height of {v} metres.",
            "From bottom to top, {t} measures {v} metres.",
        ),
        NUMBER,
    ),
    Kind(
        "{t} belongs to the town of {v}.",
        ("The owner of {t} is the town of {v}.", "{v} owns {t}.", "{t} is the property of the town of {v}."),
        TOWNS,
    ),
)


@dataclass(frozen=True, slots=True)
class Case:
    """A sentence, the passages that it should rest on, and whether they say it. `how` names what was done to it."""

    sentence: str
    passages: tuple[PromptPassage, ...]
    supported: bool
    how: str


def cases(*, held_out: bool, count: int = 150, seed: int = 7) -> list[Case]:
    """`count` answers' sentences of each sort; `held_out` chooses the half of the kinds."""
    pick = random.Random(f"{seed}/{held_out}")
    kinds = KINDS[held_out::2]
    return [case for _ in range(count) for case in _answer(pick, kinds)]


def _answer(pick: random.Random, kinds: Sequence[Kind]) -> Iterator[Case]:
    things = pick.sample(THINGS.split("|"), 3)
    told = [pick.sample(range(len(kinds)), 4) for _ in things]
    values = [{k: _value(pick, kinds[k]) for k in range(len(kinds))} for _ in things]
    passages = tuple(
        PromptPassage(
            index=i + 1,
            document=f"{i}.md",
            text=" ".join(_say(kinds[k].said, thing, values[i][k]) for k in told[i]),
        )
        for i, thing in enumerate(things)
    )
    i = pick.randrange(3)
    known, missing = pick.choice(told[i]), pick.choice([k for k in range(len(kinds)) if k not in told[i]])
    right = values[i][known]
    wrong = next(value for value in iter(lambda: _value(pick, kinds[known]), None) if value != right)
    other = next((values[j][known] for j in range(3) if known in told[j] and values[j][known] != right), None)
    wording = pick.choice(kinds[known].restated)
    yield Case(_say(wording, things[i], right), passages, True, "restated")
    yield Case(_say(kinds[known].restated[-1], things[i], right), passages, True, "in other words")
    yield Case(_say(kinds[known].said, things[i], right), passages, True, "repeated")
    yield Case(_say(wording, things[i], wrong), passages, False, "another value")
    if other is not None:
        yield Case(_say(wording, things[i], other), passages, False, "the value of another thing")
    yield Case(_say(pick.choice(kinds[missing].restated), things[i], values[i][missing]), passages, False, "not said")


def _value(pick: random.Random, kind: Kind) -> str:
    return str(pick.randrange(3, 2000)) if kind.values == NUMBER else pick.choice(kind.values.split("|"))


def _say(wording: str, thing: str, value: str) -> str:
    said = wording.format(t=thing, v=value)
    return said[0].upper() + said[1:]
