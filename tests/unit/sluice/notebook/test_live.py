"""Displays that change while a cell runs, with a stand-in for IPython."""

import sys
from collections.abc import AsyncIterator, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from sluice.api.jobs import Job, JobState
from sluice.api.queries import Answer, Delta, Done, Event, Source, Sources
from sluice.client.progress import job_display
from sluice.kernel import in_notebook
from sluice.notebook import live, show, show_async

EVENTS: tuple[Event, ...] = (
    Sources(id="q1", sources=(Source(index=1, document="a.md", text="A passage."),)),
    Delta(text="It is "),
    Delta(text="so [1]."),
    Done(id="q1", cited=(1,), confidence=0.5),
)


class Displays:
    """What was displayed, each place with all that it has shown."""

    def __init__(self) -> None:
        self.places: list[list[dict[str, str]]] = []

    def display(self, bundle: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        place = [bundle]
        self.places.append(place)
        return SimpleNamespace(update=lambda bundle, *, raw: place.append(bundle))


@pytest.fixture
def displays(monkeypatch: pytest.MonkeyPatch) -> Displays:
    """A notebook's kernel."""
    displays = Displays()
    ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.__dict__["get_ipython"] = lambda: SimpleNamespace(kernel=object())
    display.__dict__["display"] = displays.display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return displays


def test_a_terminal_is_not_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    for shell in (None, SimpleNamespace()):
        ipython = ModuleType("IPython")
        ipython.__dict__["get_ipython"] = lambda shell=shell: shell
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        assert not in_notebook()


def test_a_job_is_followed_in_one_place(displays: Displays) -> None:
    display = job_display(True)
    for state in (JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED):
        display(Job(id="j1", kind="ingest", state=state))
    (place,) = displays.places
    assert [bundle["text/plain"] for bundle in place] == ["ingest queued", "ingest running", "ingest succeeded"]
    assert "succeeded" in place[-1]["text/html"]


def test_a_caller_may_do_without_the_progress(displays: Displays) -> None:
    job_display(False)(Job(id="j1"))
    assert displays.places == []


def test_an_answer_is_shown_while_it_is_written(displays: Displays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "REDRAWN_EVERY", 0.0)
    answer = show(EVENTS)
    assert isinstance(answer, Answer)
    assert (answer.answer, answer.cited, answer.confidence, answer.sources[0].document) == (
        "It is so [1].",
        (1,),
        0.5,
        "a.md",
    )
    (place,) = displays.places
    assert [bundle["text/plain"] for bundle in place] == ["", "It is ", "It is so [1].", "It is so [1]."]
    assert "confidence 0.50" in place[-1]["text/html"]


def test_pieces_that_come_fast_are_drawn_together(displays: Displays, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "REDRAWN_EVERY", 3600.0)
    show((EVENTS[0], *(Delta(text="x") for _ in range(500)), EVENTS[-1]))
    (place,) = displays.places
    assert [bundle["text/plain"] for bundle in place] == ["", "x" * 500]


async def test_an_answer_of_the_asynchronous_client_is_shown_too(displays: Displays) -> None:
    async def events() -> AsyncIterator[Event]:
        for event in EVENTS:
            yield event

    assert (await show_async(events())).answer == "It is so [1]."
    assert len(displays.places) == 1


def test_elsewhere_the_text_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert show(EVENTS).answer == "It is so [1]."
    assert capsys.readouterr().out == "It is so [1].\n"


def test_a_stream_that_breaks_off_leaves_what_there_was(displays: Displays) -> None:
    def broken() -> Iterator[Event]:
        yield EVENTS[0]
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        show(broken())
    assert "a.md" in displays.places[0][-1]["text/html"]
    with pytest.raises(ValueError, match="no end"):
        show(EVENTS[:2])
