"""Simulated readers, who teach an embedding model the words of their team.

The documents are the functions and classes of Python's standard library, as their docstrings describe them. So the
corpus comes with Python itself. The readers' rule:

1. A reader wants one of the documents, drawn by `--seed`.
2. They ask with the first sentence of its docstring, in the team's jargon (jargon.txt): "slate" stands for "file".
3. If a source of the answer is the wanted document, they mark it as relevant and the sources above it as not. The
   rating is thumbs up where it is the first source, else thumbs down.
4. If none is, they rate it thumbs down and write the sentence as the correction.

With `--noise` they mark any source, whatever they wanted: feedback that nothing can be learned from.

    python -m examples.improve.readers --collection improve --questions 500
"""

import argparse
import importlib
import inspect
import json
import random
import re
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sluice import Client
from sluice.api.queries import Answer

__all__ = ["Reader", "Team", "Wanted", "in_jargon", "standard_library"]

MODULES: Final = """
argparse array base64 bisect bz2 calendar codecs collections colorsys configparser contextlib copy csv datetime
decimal difflib dis email.message email.utils enum filecmp fileinput fnmatch fractions ftplib functools getpass
gettext glob gzip hashlib heapq hmac html http.client http.cookies http.server imaplib inspect io ipaddress
itertools json linecache locale logging lzma mailbox math mimetypes netrc numbers operator os os.path pathlib
pickle pkgutil platform plistlib poplib pprint queue random re reprlib sched secrets select selectors shelve
shlex shutil signal smtplib socket socketserver sqlite3 ssl stat statistics string struct subprocess sysconfig
tarfile tempfile textwrap threading time timeit tokenize trace traceback tracemalloc types typing unicodedata
unittest urllib.parse urllib.request uuid warnings wave weakref xml.dom.minidom xml.etree.ElementTree
xmlrpc.client zipapp zipfile zlib zoneinfo
""".split()  # noqa: SIM905  (a list would be ten times as long)

JARGON: Final = dict(line.split(": ") for line in Path(__file__).with_name("jargon.txt").read_text().splitlines())
"""What the team calls things."""

SHORTEST: Final = 120
"""Characters of a docstring that is a document."""

LONGEST: Final = 150
"""Characters of a question at most."""

TOP_K: Final = 10

BEGINS: Final = 120.0
LOOK: Final = 1.0
"""Seconds for a canary to begin, and between two looks whether it has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A document, and the sentence that a reader has in mind who wants it."""

    name: str
    sentence: str
    text: str


def standard_library() -> list[Wanted]:
    """The documents, by name. The same Python has the same."""
    found: dict[str, Wanted] = {}
    for module in MODULES:
        for name, doc in _docstrings(module):
            sentence = " ".join(doc.split("\n\n")[0].split()).partition(". ")[0][:LONGEST]
            found[name] = Wanted(name=name, sentence=sentence, text=f"{name}\n\n{doc}")
    return [found[name] for name in sorted(found)]


def _docstrings(module: str) -> Iterator[tuple[str, str]]:
    try:
        loaded = importlib.import_module(module)
    except ImportError:  # a build of Python may lack some
        return
    for name, member in sorted(vars(loaded).items()):
        if name.startswith("_") or getattr(member, "__module__", None) != module:
            continue
        parts = [(name, member)]
        if inspect.isclass(member):
            parts += [(f"{name}.{part}", one) for part, one in sorted(vars(member).items()) if not part.startswith("_")]
        for part, one in parts:
            doc = inspect.getdoc(one) if callable(one) else None
            if doc and len(doc) >= SHORTEST:
                yield f"{module}.{part}", doc


def in_jargon(sentence: str) -> str:
    """What a member of the team says for it."""
    return re.sub(r"[A-Za-z]+", lambda word: _translated(word[0].lower()) or word[0], sentence)


def _translated(word: str) -> str | None:
    found = JARGON.get(word)
    if found is None and word.endswith("s") and (singular := JARGON.get(word[:-1])) is not None:
        return f"{singular}s"
    return found


class Reader:
    """Asks for what they want, and says what the answer is worth."""

    def __init__(self, client: Client, collection: str, *, noise: random.Random | None = None) -> None:
        self._client = client
        self._collection = collection
        self._noise = noise

    def ask(self, wanted: Wanted) -> tuple[Answer, int | None]:
        """The answer, and the place of the wanted document among its sources."""
        answer = self._client.query(in_jargon(wanted.sentence), collection=self._collection, top_k=TOP_K)
        place = next((source.index for source in answer.sources if source.document == wanted.name), None)
        return answer, place

    def judge(self, wanted: Wanted, answer: Answer, place: int | None) -> None:
        """Leave feedback on an answer, by the readers' rule."""
        if self._noise is not None:
            place = self._noise.choice([source.index for source in answer.sources] or [None])
        if place is None:
            self._client.give_feedback(answer.id, rating="down", correction=wanted.sentence)
            return
        sources = {source.index: False for source in answer.sources if source.index < place} | {place: True}
        self._client.give_feedback(answer.id, rating="up" if place == 1 else "down", sources=sources)


def main() -> int:
    arguments = _arguments()
    chance = random.Random(arguments.seed)  # noqa: S311  (the same readers each time)
    library = standard_library()
    documents = chance.sample(library, min(arguments.documents, len(library)))
    with Client() as client:
        _fill(client, arguments.collection, documents)
        team = Team(client, arguments.collection, documents, noise=arguments.noise, seed=arguments.seed)
        found = team.work(arguments.questions, clients=arguments.clients, during_canary=arguments.during_canary)
    print("::output::", json.dumps(found), flush=True)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--collection", default="improve", help="the collection that they ask; it is made if need be")
    parser.add_argument("--documents", type=int, default=600, help="documents in it, drawn from the standard library")
    parser.add_argument("--questions", type=int, default=500, help="questions that they ask at most")
    parser.add_argument("--clients", type=int, default=4, help="readers who ask at the same time")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same documents and questions")
    parser.add_argument("--noise", action="store_true", help="mark any source, whatever was wanted")
    parser.add_argument("--during-canary", action="store_true", help="ask as long as the collection has a canary")
    return parser.parse_args()


def _fill(client: Client, collection: str, documents: list[Wanted]) -> None:
    """Have the documents in the collection; those that are there are skipped."""
    client.create_collection(collection)
    texts = {document.name: document.text for document in documents}
    job = client.wait(client.add_texts(collection, texts).id)
    if job.state != "succeeded":
        raise SystemExit(f"The documents are not in the collection: {job.error.detail if job.error else job.state}")


class Team:
    """Readers who ask at the same time."""

    def __init__(self, client: Client, collection: str, documents: list[Wanted], *, noise: bool, seed: int) -> None:
        self._client = client
        self._collection = collection
        self._documents = documents
        self._noise = random.Random(seed) if noise else None  # noqa: S311
        self._order = random.Random(seed)  # noqa: S311
        self._lock = threading.Lock()
        self._asked = self._found = self._first = 0
        self._enough = threading.Event()

    def work(self, questions: int, *, clients: int, during_canary: bool) -> dict[str, float]:
        """Ask so many questions, or as many as there are during a canary. Returns what came of them."""
        wanted = self._wanted(questions)
        with ThreadPoolExecutor(clients) as pool:
            readers = [pool.submit(self._read, wanted, questions) for _ in range(clients)]
            if during_canary:
                self._until_canary_ends()
                self._enough.set()
            for reader in readers:
                reader.result()
        return {"asked": self._asked, "found": self._found, "first": self._first}

    def _wanted(self, questions: int) -> Iterator[Wanted]:
        """One document after the other, each once before any comes again."""
        left: list[Wanted] = []
        for _ in range(questions):
            left = left or self._order.sample(self._documents, len(self._documents))
            yield left.pop()

    def _read(self, wanted: Iterator[Wanted], questions: int) -> None:
        with Client() as client:
            reader = Reader(client, self._collection, noise=self._noise)
            while not self._enough.is_set():
                with self._lock:
                    one = next(wanted, None)
                if one is None:
                    return
                answer, place = reader.ask(one)
                reader.judge(one, answer, place)
                with self._lock:
                    self._asked += 1
                    self._found += place is not None
                    self._first += place == 1
                    print(f"::progress:: {self._asked}/{questions}", flush=True)

    def _until_canary_ends(self) -> None:
        begun, patience = False, time.monotonic() + BEGINS
        while True:
            canary = self._client.collection(self._collection).canary
            begun = begun or canary is not None
            if canary is None and (begun or time.monotonic() > patience):
                return
            time.sleep(LOOK)


if __name__ == "__main__":
    sys.exit(main())
