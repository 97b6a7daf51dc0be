"""Formats for tests of DocumentReader: parsers that do what a hostile document might do to a worker.

The suffix says what happens; the bytes of the document are its argument.
"""

import os
import signal
import sys
from pathlib import Path

from services.scheduler.ingestion.parsing import Format, ParsedDocument, Section, Source

__all__ = ["FORMATS"]


def hang(source: Source) -> ParsedDocument:
    """Writes the id of this process to the named pipe that the document names, if any, and never ends."""
    if source.data != b"silently":
        Path(source.data.decode()).write_text(str(os.getpid()))
    while True:
        signal.pause()


def eat(source: Source) -> ParsedDocument:
    """Takes memory until there is no more."""
    taken = []
    while True:
        taken.append(bytearray(int(source.data)))


def leave(source: Source) -> ParsedDocument:
    os._exit(int(source.data))


def die(source: Source) -> ParsedDocument:
    os.kill(os.getpid(), signal.Signals[source.data.decode()])
    return tell(source)


def chatter(source: Source) -> ParsedDocument:
    """Writes where the protocol of the worker must not be, and reads from there."""
    os.write(1, b"noise on standard output\n")
    print("more noise", sys.stdin.read())
    return tell(source)


def tell(source: Source) -> ParsedDocument:
    """What this process knows: its id, its imports and its environment."""
    facts = {"pid": os.getpid(), "modules": " ".join(sorted(sys.modules)), "environment": " ".join(os.environ)}
    return ParsedDocument(media_type=source.media_type, sections=(Section(text="Facts."),), metadata=facts)


def fail(source: Source) -> ParsedDocument:
    raise KeyError("unexpected")


FORMATS = tuple(
    Format(media_type=f"test/{function.__name__}", suffixes=(f".{function.__name__}",),
           parser=f"{__name__}:{function.__name__}")
    for function in (hang, eat, leave, die, chatter, tell, fail)
)  # fmt: skip
