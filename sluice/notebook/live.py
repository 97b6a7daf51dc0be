"""Displays that change while a cell runs."""

import sys
import time
from collections.abc import AsyncIterable, Iterable
from importlib import import_module
from typing import Any, Final

from sluice.api.jobs import Job
from sluice.api.queries import Answer, Delta, Done, Event, Source
from sluice.kernel import in_notebook
from sluice.notebook.answer import answer
from sluice.notebook.jobs import line
from sluice.notebook.markup import Markup, document

__all__ = ["LiveJob", "show", "show_async"]

REDRAWN_EVERY: Final = 0.1
"""Seconds; an answer's pieces come faster than anybody reads."""


class _Output:
    """A place below the cell, whose content can be replaced."""

    def __init__(self) -> None:
        self._handle: Any = None

    def set(self, content: Markup, plain: str) -> None:
        bundle = {"text/html": document(content), "text/plain": plain}
        if self._handle is None:
            display = import_module("IPython.display").display
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


class LiveJob:
    """One line that follows a job."""

    def __init__(self) -> None:
        self._output = _Output()

    def __call__(self, job: Job) -> None:
        done, total = job.progress.units
        plain = f"{job.kind} {job.state} {done:,}/{total:,}" if total else f"{job.kind} {job.state}"
        self._output.set(line(job), plain)


class _LiveAnswer:
    """An answer as it is written: in a notebook as a display, elsewhere as text on standard output."""

    def __init__(self) -> None:
        self._output = _Output() if in_notebook() else None
        self._sources: tuple[Source, ...] = ()
        self._text: list[str] = []
        self._drawn = float("-inf")
        self.answer: Answer | None = None

    def add(self, event: Event) -> None:
        match event:
            case Done():
                text = "".join(self._text)
                self.answer = Answer(**{**dict(event), "answer": text, "sources": self._sources})
            case Delta():
                self._text.append(event.text)
            case _:
                self._sources = event.sources
        if self._output is not None:
            self._draw(self._output)
        else:
            sys.stdout.write(event.text if isinstance(event, Delta) else "\n" if isinstance(event, Done) else "")
            sys.stdout.flush()

    def end(self) -> Answer:
        if self.answer is None:
            raise ValueError("these events have no end: give all that `stream` yields")
        return self.answer

    def _draw(self, output: _Output) -> None:
        now = time.monotonic()
        if self.answer is None and now - self._drawn < REDRAWN_EVERY:
            return
        self._drawn = now
        shown = self.answer or Answer(answer="".join(self._text), sources=self._sources)
        output.set(answer(shown, complete=self.answer is not None), shown.answer)


def show(events: Iterable[Event]) -> Answer:
    """Show an answer while it is written, given what `Client.stream` yields. Returns the whole answer."""
    live = _LiveAnswer()
    for event in events:
        live.add(event)
    return live.end()


async def show_async(events: AsyncIterable[Event]) -> Answer:
    """`show` for what `AsyncClient.stream` yields."""
    live = _LiveAnswer()
    async for event in events:
        live.add(event)
    return live.end()
