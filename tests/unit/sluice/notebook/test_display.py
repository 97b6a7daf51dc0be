"""What notebooks show of the API's objects: complete, escaped and bounded."""

import re
import subprocess
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any, Final
from xml.etree import ElementTree

import pytest

from sluice.api.base import Listing, Schema
from sluice.api.collections import Collection, CollectionPage, CollectionVersion
from sluice.api.dead_letters import DeadLetter
from sluice.api.documents import Document, DocumentPage
from sluice.api.evaluations import EvaluationReport
from sluice.api.jobs import Artifact, AuditEvent, Job, Schedule, Step
from sluice.api.keys import ApiKey
from sluice.api.passages import DocumentPassage, PassagePage
from sluice.api.pipelines import Pipeline
from sluice.api.queries import Answer, Delta, Source, Sources
from sluice.api.routing import Route, Variant
from sluice.api.status import Status
from sluice.notebook import html

HOSTILE: Final = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&\x1b[31m\x00\x7f\x9b\ud800 $\\href{javascript:x}{y}$"
)
AT: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ALLOWED: Final = """
b bdi blockquote circle code details div li line progress span style summary svg table tbody td text th thead tr ul
"""
"""Elements that run nothing and load nothing."""
ATTRIBUTES: Final = """
aria-label class cx cy dir fill font-size height max open r role scope stroke stroke-opacity stroke-width text-anchor
title value viewbox width x x1 x2 xmlns y y1 y2
"""


class Reader(HTMLParser):
    """Reads HTML as a browser does: its text, its elements and attributes, and whether all are closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED.split()
        assert {name for name, _ in attrs} <= set(ATTRIBUTES.split())
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def shown(value: object) -> str:
    """The text that a reader sees."""
    found = html(value)
    assert found is not None
    found.encode()
    return Reader(found).text


def an_answer(**more: Any) -> Answer:
    text = "It runs for 24 months [1]. Mars is red."
    return Answer.model_validate(
        {
            "answer": text,
            "sources": [
                {"index": 1, "document": "warranty.md", "position": 2, "text": "The warranty.", "score": 0.912},
                {"index": 2, "document": "other.md", "text": "Something else.", "score": 0.1},
            ],
            "cited": [1],
            "confidence": 0.93,
            "supported": [
                {"sentence": "It runs for 24 months [1].", "start": 0, "end": 26},
                {"sentence": "Mars is red.", "start": 27, "end": 39, "supported": False, "score": 0.05},
                {"sentence": "Venus too.", "start": 39, "end": 39, "supported": False, "score": 0.01},
            ],
            **more,
        }
    )


def a_report(**more: Any) -> EvaluationReport:
    return EvaluationReport.model_validate(
        {
            "collection": "docs",
            "version": "v2",
            "top_k": 5,
            "mode": "hybrid",
            "metrics": {"questions": 2, "failed": 1, "recall_at_5": 0.5, "mrr": 0.25, "latency_p50_ms": 12.0},
            "intervals": {"recall_at_5": {"low": 0.1, "high": 0.9}, "mrr": {"low": 0.0, "high": 0.5}},
            "comparison": {
                "baseline": "j0/report.json",
                "questions": 2,
                "differences": {"recall_at_5": {"mean": -0.5, "low": -1.0, "high": 0.0}},
                "better": [],
                "worse": [{"question": "Who built it?", "change": -1.0}],
            },
            "questions": [
                {"question": "Who built it?", "expected": ["lamp.md"], "rank": None},
                {"question": "When?", "expected": ["lamp.md"], "rank": 1},
            ],
            **more,
        }
    )


def objects(text: str) -> list[object]:
    """Objects of all classes that have a display, whose every text is this one."""
    source = {
        "index": 1,
        "document": text,
        "text": text,
        "copies": [{"document": text}],
        "context": [{"position": 1, "text": text}],
        "metadata": {text: text},
    }
    sentence = {"sentence": text, "start": 0, "end": len(text), "supported": False}
    document = Document(
        id="1",
        name=text,
        media_type=text,
        metadata={text: text},
        allowed=(text,),
        warnings=({"kind": text, "detail": text},),  # type: ignore[arg-type]
        indexed_at=AT,
    )
    job = Job.model_validate(
        {
            "id": text,
            "kind": text,
            "state": "failed",
            "collection": text,
            "progress": {"message": text, "failed": 1},
            "errors": [{"document": text, "title": text, "detail": text}],
            "warnings": [{"document": text, "kind": text, "detail": text}],
            "error": {"title": text, "detail": text},
            "outputs": {text: text, "list": [text], "message": text},
            "artifacts": [text],
        }
    )
    collection = Collection(name=text, description=text, versions=(CollectionVersion(name=text, state=text),))
    passage = DocumentPassage(position=1, text=text)
    return [
        Answer.model_validate(
            {"answer": text, "sources": [source], "supported": [sentence], "engine": text, "model": text}
        ),
        Sources.model_validate({"sources": [source]}),
        Source.model_validate(source),
        job,
        collection,
        CollectionPage(collections=(collection,), next=text),
        DocumentPage(documents=(document,), next=text),
        PassagePage(document=text, passages=(passage,)),
        Status.model_validate({"services": [{"service": text, "stages": [{"stage": text}]}], "warnings": [text]}),
        a_report(
            collection=text,
            version=text,
            pipeline=text,
            mode=text,
            metrics={text: 1.0},
            intervals={text: {"low": -9.0, "high": 9.0}},
            questions=[{"question": text, "error": text}],
            comparison={"baseline": text, "worse": [{"question": text}]},
        ),
        [document],
        [job],
        [Schedule(name=text, cron=text, zone=text, spec={"kind": text}, last_job=text)],
        [Step(step=text, kind=text, status=text, reason=text)],
        [AuditEvent(at=AT, state="failed", by=text, reason=text)],
        [Artifact(name=text)],
        [ApiKey(id=text, name=text, state=text, actions=(text,), collections=(text,))],
        [Pipeline(name=text)],
        [Route(stage=text, variants=(Variant(variant=text),), warnings=(text,))],
        [DeadLetter(seq=1, subject=text, reason=text)],
    ]


@pytest.mark.parametrize(
    "value", objects(HOSTILE), ids=lambda value: type(value[0] if isinstance(value, list) else value).__name__
)
def test_texts_of_others_are_text(value: object) -> None:
    text = shown(value)
    assert "<script>alert(1)</script>" in text
    assert "␛[31m␀␡" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", text)


@pytest.mark.parametrize("number", range(len(objects(""))))
def test_each_display_is_bounded(number: int) -> None:
    found = html(objects("x" * 1_000_000)[number]) or ""
    assert len(found) < 40_000
    assert "more characters)" in found


def test_formulas_in_texts_are_not_typeset() -> None:
    assert "tex2jax_ignore mathjax_ignore" in (html(an_answer()) or "")


def test_an_answer_has_its_citations_confidence_and_doubtful_sentences() -> None:
    found = html(an_answer()) or ""
    text = shown(an_answer())
    assert '<b title="warranty.md #2">[1]</b>' in found
    assert '<span class="doubt" title="No source supports this sentence">Mars is red.</span>' in found
    assert "<details><summary><b>[1] <bdi>warranty.md</bdi></b>" in found
    assert "[1] warranty.md #2 · 0.912 · citedThe warranty." in text
    assert "[2] other.md #0 · 0.100Something else." in text
    assert "confidence 0.93" in text
    assert "no source supports 2 sentences" in text
    assert "Venus too. 0.01 (left out of the answer)" in text


def test_an_answer_that_should_not_be_trusted_says_why() -> None:
    text = shown(an_answer(answerable=False, finish="length", context={"window": 10, "dropped": [2], "shortened": [1]}))
    for said in (
        "no source seems to answer",
        "reached its limit",
        "[2] did not fit",
        "only the first sentences of [1]",
    ):
        assert said in text


def test_sentences_outside_the_text_are_not_marked() -> None:
    answer = an_answer(supported=[{"sentence": "x", "start": 30, "end": 99, "supported": False}])
    assert "It runs for 24 months [1]. Mars is red." in shown(answer)


@pytest.mark.parametrize("start", [0, 27])
def test_a_citation_of_no_source_stays_text(start: int) -> None:
    assert "<b" not in (html(Answer(answer="See [7] and [12].")) or "")


def test_long_texts_and_lists_are_cut_and_say_so() -> None:
    sources = tuple(Source(index=n, document=f"{n}.md", text="x" * 100_000) for n in range(1, 101))
    answer = Answer(answer="y" * 1_000_000, sources=sources)
    found = html(answer) or ""
    assert len(found) < 200_000
    assert "… (980,000 more characters)" in found
    assert "… (97,000 more characters)" in found
    assert "and 80 more sources" in found
    documents = [Document(id=str(n), name="n" * 5_000) for n in range(10_000)]
    listed = html(documents) or ""
    assert len(listed) < 60_000
    assert "and 9,950 more" in listed


def test_a_failed_job_says_why_in_words() -> None:
    job = Job.model_validate(
        {
            "id": "j1",
            "kind": "ingest",
            "state": "failed",
            "collection": "docs",
            "attempt": 3,
            "progress": {"documents": 30, "indexed": 4, "failed": 25, "chunks": 9, "bytes": 2_500_000},
            "errors": [{"document": f"{n}.pdf", "title": "The document is broken"} for n in range(25)],
            "error": {"title": "The folder is gone", "detail": "There is no /srv/docs."},
        }
    )
    text = shown(job)
    assert "The folder is gone: There is no /srv/docs." in text
    assert "30 documents: 4 indexed, 25 failed; 9 chunks, 2.5 MB" in text
    assert "try number 3" in text
    assert "19.pdfThe document is broken" in text
    assert "20.pdf" not in text
    assert "and 5 more" in text


def test_a_job_that_runs_has_its_progress() -> None:
    job = Job.model_validate({"id": "j1", "state": "running", "progress": {"done": 3, "total": 8, "message": "pass 1"}})
    assert '<progress max="8" value="3">' in (html(job) or "")
    assert "pass 1" in shown(job)


def test_a_report_has_a_table_and_a_plot_of_its_intervals() -> None:
    found = html(a_report()) or ""
    text = shown(a_report())
    assert "2 questions · 1 failed · hybrid search · top 5 · latency p50 12 ms" in text
    assert "recall@50.5000.100 to 0.900-0.500 (-1.000 to +0.000)" in text
    assert "0 questions better and 1 worse than in j0/report.json" in text
    assert "1 question without a relevant passage" in text
    picture = ElementTree.fromstring(found[found.index("<svg") : found.index("</svg>") + 6])
    circles = picture.findall("{http://www.w3.org/2000/svg}circle")
    assert [circle.get("cx") for circle in circles] == ["310.0", "235.0"]


def test_a_page_says_that_more_follow() -> None:
    page = DocumentPage(documents=(Document(id="1", name="a.md"),), next="a.md")
    assert "after='a.md'" in shown(page)
    assert "No documents." in shown(DocumentPage())


def test_columns_without_content_are_left_out() -> None:
    text = shown(DocumentPage(documents=(Document(id="1", name="a.md"),)))
    assert "warnings" not in text
    assert "everybody" in text


def test_a_list_is_a_table_where_its_objects_are_alike() -> None:
    jobs = Listing([Job(id="j1", kind="ingest"), Job(id="j2", kind="delete")])
    assert jobs == [Job(id="j1", kind="ingest"), Job(id="j2", kind="delete")]
    assert "delete" in (jobs._repr_html_() or "")
    assert Listing()._repr_html_() is None
    assert Listing([1, "two"])._repr_html_() is None


def test_an_object_without_a_display_is_read_as_text() -> None:
    class Other(Schema):
        name: str = ""

    assert Other(name="x")._repr_html_() is None
    assert Delta(text="x")._repr_html_() is None


def test_the_plain_text_leaves_out_what_is_as_usual() -> None:
    assert repr(Job(id="j1", kind="ingest")) == "Job(id='j1', kind='ingest')"
    answer = Answer(answer="y" * 1_000, sources=tuple(Source(index=n, document="a.md", text="t") for n in range(100)))
    assert len(repr(answer)) < 2_000
    assert "y…'" in repr(answer)


def test_nothing_of_it_is_loaded_outside_a_notebook() -> None:
    code = (
        "import sys; from sluice import Client, AsyncClient, Answer; repr(Answer(answer='x'));"
        "print([name for name in sys.modules if name.startswith(('IPython', 'sluice.notebook'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout == "[]\n"
