"""Quality of retrieval and answers on corpora with questions. `python -m benchmarks.quality --help`"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import suite

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from benchmarks.quality.corpora import Question

TITLE = "Quality of retrieval and answers"
ABOUT = """\
The corpora are made from packages of Debian and from its package lists. Each set of questions has two halves, by a hash
of the question: settings may be chosen on one, and the figures are of the other. *faq* holds answers to
questions that people asked about Perl, Python, Debian, R, zsh and Apache; *packages* descriptions of packages, found by
their one-line description; *multilingual* such descriptions in seven languages; *parts* is a made-up catalogue whose
entries differ in one digit. Questions with typing mistakes and paraphrases are derived from others by rules; the
paraphrases replace words by synonyms of WordNet and are no person's.

*Plain dense* embeds windows of 1,000 characters and compares by cosine; *BM25* is over the same windows and unstemmed
words; *RRF* fuses both by rank. *LlamaIndex* and *Haystack* cut and search with their defaults. *Sluice* is `sluice
up` with its defaults, asked over HTTP, and answers with the extractive engine; reranking may take 30 seconds, so that
it scores every candidate. All have vectors of the same model, all-MiniLM-L6-v2. A ranking is that of documents by
their best passage among 20 passages.

Brackets are 95 % confidence intervals by bootstrap over questions. *Against plain dense* is the mean difference in
nDCG@10 with the interval of paired questions. *Declined* is the share of questions that were not answered: of those
that no document answers it should be high, of the others low."""
VERSIONS = ("sentence-transformers", "openvino", "numpy")

PEER_PACKAGES = ("llama-index-core", "haystack-ai")
OURS = "Sluice"
BASE = "plain dense"
QUICK = 24
RERANK_SECONDS = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--corpora", nargs="*", help="names; none: all of them")
    parser.add_argument("--half", choices=("tune", "test"), default="test", help="figures to publish are of `test`")
    parser.add_argument("--no-peers", action="store_true", help="without LlamaIndex and Haystack")
    parser.add_argument("--no-sluice", action="store_true", help="without the platform, whose ingestion takes minutes")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.quality.corpora import NAMES, Half, load

    found = {}
    names = arguments.corpora or (("parts",) if arguments.quick else NAMES)
    for name in names:
        corpus = load(name)
        questions = corpus.of(Half(arguments.half))
        questions = questions[:: max(1, len(questions) // QUICK)] if arguments.quick else questions
        found[name] = {
            "documents": len(corpus.documents),
            "digest": corpus.digest,
            "sources": dict(corpus.sources),
            **_contenders(arguments, name, questions),
        }
    return {"half": arguments.half, "corpora": found, "versions": suite.peer_versions(PEER_PACKAGES)}


def _contenders(arguments: argparse.Namespace, name: str, questions: "Sequence[Question]") -> dict[str, Any]:
    """Rankings of every contender, as measures."""
    from benchmarks.quality import peers
    from benchmarks.quality.baselines import Plain
    from benchmarks.quality.corpora import load

    corpus = load(name)
    answerable = [question for question in questions if question.relevant]
    rankings = Plain(corpus).search(answerable)
    answers = {}
    with tempfile.TemporaryDirectory() as work:
        if not arguments.no_peers and suite.peers_python():
            for peer in peers.MODULES:
                rankings[peer] = peers.search(peer, corpus, answerable, Path(work))
        if not arguments.no_sluice:
            asked = _through_the_door(corpus, questions, Path(work))
            rankings |= {contender: rows for contender, (rows, _) in asked.items()}
            answers = {contender: figures for contender, (_, figures) in asked.items()}
    suite.say(f"{name}: {', '.join(rankings)}")
    return {"rankings": _figures(answerable, rankings), "answers": answers}


def _through_the_door(
    corpus: Any, questions: "Sequence[Question]", work: Path
) -> dict[str, tuple[list[list[str]], dict[str, Any]]]:
    """For Sluice as it comes, and with reranking where its pipelines offer it: rankings, and figures of answers."""
    from benchmarks.quality.front_door import FrontDoor
    from benchmarks.quality.measures import interval
    from tests.harness.platform import Platform

    found = {}
    # On a busy machine the default budget may leave no time for a single passage.
    with Platform(work / "platform", rerank_budget=RERANK_SECONDS) as platform:
        door = FrontDoor(platform)
        collection = door.ingest(corpus)
        offered = {pipeline.name for pipeline in platform.client().pipelines()}
        requests = {OURS: {}} | ({f"{OURS}, rerank": {"pipeline": "rerank"}} if "rerank" in offered else {})
        for contender, members in requests.items():
            asked = door.ask(collection, questions, **members)
            pairs = list(zip(questions, asked, strict=True))
            groups: dict[str, list[float]] = {}
            for question, one in pairs:
                group = "answerable" if question.relevant else question.subset
                groups.setdefault(group, []).append(float(not one.answered))
            rows = [one.documents for question, one in pairs if question.relevant]
            found[contender] = (rows, {"declined": {group: interval(values) for group, values in groups.items()}})
    return found


def _figures(questions: "Sequence[Question]", rankings: Mapping[str, list[list[str]]]) -> dict[str, Any]:
    """By contender, kind of question ("all" for all) and measure: the interval; and the difference to plain dense."""
    from benchmarks.quality.measures import MEASURES, difference, interval, measured, ranked

    scores = {
        contender: [measured(ranked(row), question.relevant) for row, question in zip(rows, questions, strict=True)]
        for contender, rows in rankings.items()
    }
    kinds = ["all", *dict.fromkeys(question.kind.value for question in questions)]
    found: dict[str, Any] = {}
    for contender, rows in scores.items():
        for kind in kinds:
            places = [n for n, question in enumerate(questions) if kind in ("all", question.kind.value)]
            figures: dict[str, Any] = {
                measure: interval([rows[place][measure] for place in places]) for measure in MEASURES
            }
            ours, base = ([one[place]["ndcg@10"] for place in places] for one in (rows, scores[BASE]))
            figures["questions"] = len(places)
            figures["against"] = difference(ours, base)
            found.setdefault(contender, {})[kind] = figures
    return found


def table(results: dict[str, Any]) -> str:
    from benchmarks.quality import showing

    return showing.table(results)


def targets(results: dict[str, Any]) -> list[suite.Target]:
    from benchmarks.quality import showing

    return showing.targets(results)


def plot(results: dict[str, Any], figure: "Figure") -> None:
    from benchmarks.quality import showing

    showing.plot(results, figure)
