"""The corpus `parts`: a made-up catalogue in which everything has a number, and a sibling that differs in one digit.

Parts, error codes, vulnerabilities, releases, classes of code and digests of files. Texts of one sort differ in little
but their numbers, so that vectors cannot tell them apart. Unanswerable are questions about numbers that the catalogue
skips, and about what it does not say of a thing that is there.
"""

import random
from collections.abc import Iterator
from typing import Final, NamedTuple

from benchmarks.quality.corpora.models import Corpus, Kind, Question, digest

__all__ = ["make"]

PART_FORMS: Final = ("PPR-{:04}", "KX{:04}-20B", "7.{:03}.0044", "BR/{:05}/S")
DEVICES: Final = ("pump", "gasket", "valve", "relay", "bearing", "filter", "hinge", "coupling", "nozzle", "sensor")
MATERIALS: Final = ("brass", "nylon", "stainless steel", "rubber", "aluminium", "ceramic", "copper", "glass fibre")
HALLS: Final = ("north hall", "south hall", "cellar", "yard", "annex", "tower", "east wing")
FAULTS: Final = (
    "lets a local user read memory",
    "accepts expired certificates",
    "writes past a buffer",
    "leaks a token",
)
COMPONENTS: Final = ("print server", "mail gateway", "login form", "image parser", "backup agent", "update client")
CAUSES: Final = (
    "the lid is open",
    "the pressure is too low",
    "the tank is empty",
    "the belt has slipped",
    "no card is in",
)
VERBS: Final = ("Parse", "Render", "Merge", "Lock", "Fetch", "Index", "Cache", "Route", "Split", "Audit")
NOUNS: Final = ("Order", "Invoice", "Ledger", "Ticket", "Folder", "Stream", "Bundle", "Voucher", "Report", "Contract")
ROLES: Final = ("Handler", "Factory", "Adapter", "Worker", "Policy")


class _Entry(NamedTuple):
    """A thing of the catalogue: its number, what is said of it, what may be asked, and what nothing answers."""

    identifier: str
    text: str
    asked: tuple[str, ...]
    untold: tuple[str, ...]


def make() -> Corpus:
    documents: dict[str, str] = {}
    questions = []
    for place, entry in enumerate(_entries()):
        fate = int(digest(f"fate/{entry.identifier}")[:8], 16) % 20
        asked = entry.asked[place % len(entry.asked)]
        if fate < 2:
            questions.append(Question.of(asked, {}, Kind.UNANSWERABLE, subset="absent-entity"))
            continue
        name = f"{place:04}.txt"
        documents[name] = entry.text + "\n"
        if fate < 9:
            questions.append(Question.of(asked, {name: 1}, Kind.IDENTIFIERS))
        elif fate < 11:
            untold = entry.untold[place % len(entry.untold)]
            questions.append(Question.of(untold, {}, Kind.UNANSWERABLE, subset="absent-attribute"))
    return Corpus(name="parts", documents=documents, questions=questions)


def _entries() -> Iterator[_Entry]:
    chance = random.Random("parts")
    for number in range(320):
        yield _part(PART_FORMS[number % 4].format(9060 - number // 4), chance)
    for number in range(220):
        yield _error(f"ERR-{4000 + number}" if number % 2 else f"E_{0x7A0 + number:04X}", chance)
    for number in range(220):
        yield _flaw(f"CVE-{2023 + number % 2}-{1200 + number * 7}", chance)
    for number in range(160):
        yield _release(f"v{2 + number // 80}.{number // 8 % 10}.{number % 8}", chance)
    for verb in VERBS:
        for noun in NOUNS:
            for role in chance.sample(ROLES, 2):
                yield _class(f"{verb[0].lower()}{verb[1:]}{noun}{role}", verb, noun, chance)
    for number in range(120):
        yield _file(digest(f"file/{number}")[: 40 if number % 2 else 64], chance)


def _part(identifier: str, chance: random.Random) -> _Entry:
    device, material = chance.choice(DEVICES), chance.choice(MATERIALS)
    text = (
        f"Part {identifier} is a {device} of {material}, {chance.randrange(8, 90)} mm wide. It weighs "
        f"{chance.randrange(20, 900)} g, is kept in the {chance.choice(HALLS)} and is replaced every "
        f"{chance.randrange(2, 60)} months."
    )
    asked = (f"How wide is {identifier}?", identifier, f"where is part {identifier} kept", f"weight of {identifier}")
    untold = (f"What does part {identifier} cost?", f"Which colour has part {identifier}?", f"Who makes {identifier}?")
    return _Entry(identifier, text, asked, untold)


def _error(identifier: str, chance: random.Random) -> _Entry:
    text = (
        f"{identifier}: the machine stops because {chance.choice(CAUSES)}. Press the {chance.choice(('red', 'blue'))} "
        f"button for {chance.randrange(2, 30)} seconds and start it again from panel {chance.randrange(1, 9)}."
    )
    asked = (
        f"What does {identifier} mean?",
        f"I get {identifier} on the display",
        identifier,
        f"reset after {identifier}",
    )
    return _Entry(identifier, text, asked, (f"In which year was error {identifier} introduced?",))


def _flaw(identifier: str, chance: random.Random) -> _Entry:
    text = (
        f"{identifier}\nA flaw in the {chance.choice(COMPONENTS)} {chance.choice(FAULTS)}. "
        f"Fixed in build {chance.randrange(300, 900)}."
    )
    asked = (identifier, f"Which build fixes {identifier}?", f"are we affected by {identifier.lower()}")
    return _Entry(identifier, text, asked, (f"Who discovered {identifier}?", f"CVSS score of {identifier}"))


def _release(identifier: str, chance: random.Random) -> _Entry:
    changes = chance.sample((*COMPONENTS, "search page", "calendar", "audit log", "import of tables"), 3)
    first, second, third = changes
    text = f"Release {identifier}. Changes: the {first} is faster, the {second} was rewritten, the {third} is gone."
    asked = (f"What changed in {identifier}?", f"release notes {identifier}", identifier)
    return _Entry(identifier, text, asked, (f"How many people worked on release {identifier}?",))


def _class(identifier: str, verb: str, noun: str, chance: random.Random) -> _Entry:
    text = (
        f"The class {identifier} is used to {verb.lower()} one {noun.lower()} at a time. It retries "
        f"{chance.randrange(2, 9)} times, and waits {chance.randrange(10, 900)} ms in between."
    )
    asked = (f"How often does {identifier} retry?", identifier, f"{identifier} wait time")
    return _Entry(identifier, text, asked, (f"Who is the maintainer of {identifier}?",))


def _file(identifier: str, chance: random.Random) -> _Entry:
    number, size = chance.randrange(1000, 9999), chance.randrange(10, 99)
    text = f"{identifier}  backup-{number}.tar, {size} MB, host {chance.choice(HALLS)}"
    asked = (identifier, f"Which file has the digest {identifier}?")
    return _Entry(identifier, text, asked, (f"Who signed {identifier}?",))
