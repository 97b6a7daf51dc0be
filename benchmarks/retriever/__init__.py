"""The index by size: what is found, how fast, and what it costs. `python -m benchmarks.retriever --help`"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from benchmarks import suite
from benchmarks.retriever.building import build
from benchmarks.retriever.corpus import Corpus
from benchmarks.retriever.searching import CASES, TOP, Plan, search
from benchmarks.retriever.showing import plot, table, targets
from benchmarks.retriever.starting import start
from benchmarks.retriever.truth import nearest

__all__ = ["ABOUT", "TITLE", "VERSIONS", "add_arguments", "measure", "plot", "table", "targets"]

TITLE = "Retriever by size of the collection"
ABOUT = """\
Passages of 80 words with vectors of 384 dimensions, generated from a seed: topics of about 200 passages, words by
Zipf's law. They are written and searched through the retriever's own stores. *Disk* is the table alone: a vector index
(IVF-RQ, from 2,000 passages on) and a full-text index. *Memory* is the index in memory that follows the same table.
*Upkeep* brings the table's indices up to date, here each time that the collection has doubled and at the end. Questions
are about topics of the corpus but are not among its passages; each search returns 10.

*Recall* is the share of the ten that the same search finds when it compares all vectors with 16 bits a dimension or
more. *p50* and *p99* are for sequential searches, *searches/s* and *busy
p99* for 16 at once. A filter compares a number in the metadata and keeps a half, a hundredth or a thousandth of the
passages. *Beside a writer* measures sequential hybrid searches while 1,000 passages a second are rewritten, 250 in each
commit. Upkeep runs as in the service: after 1,000 passages or 8 commits, or 2 s after the last one, but no more than
half of the time. *Not indexed yet* measures hybrid searches while so many passages wait for upkeep.

Everything runs in one process on this machine's cores, disk and memory in turn, on a local disk, with the files in the
page cache. The size on disk includes the versions of the last ten minutes, which a running search may still read."""
VERSIONS = ("pyarrow", "numpy")

SIZES = (10_000, 100_000)
LARGE = 1_000_000
QUESTIONS = 100

P = ParamSpec("P")
T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="passages of each collection")
    parser.add_argument("--large", action="store_true", help=f"a collection of {LARGE:,} too, which takes minutes more")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind of search")
    parser.add_argument("--seconds", type=float, default=1.0, help="time of one measurement with searches at once")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    sizes = [*arguments.sizes, *([LARGE] if arguments.large else [])]
    questions = QUESTIONS
    if arguments.quick:
        sizes, questions, arguments.rounds, arguments.seconds = [3_000, 10_000], 20, 1, 0.2
    return {"sizes": [_size(size, questions, arguments) for size in sizes]}


def _size(size: int, questions: int, arguments: argparse.Namespace) -> dict[str, Any]:
    corpus = Corpus(size)
    asked = corpus.questions(questions)
    began = time.perf_counter()
    truth = nearest(corpus, asked, sorted({case.permille for case in CASES}), TOP)
    suite.say(f"{size:>9,} passages compared with {questions} questions in {time.perf_counter() - began:.1f} s")
    plan = Plan(questions=asked, truth=truth, rounds=arguments.rounds, seconds=arguments.seconds)
    with tempfile.TemporaryDirectory() as folder:
        index, cache = Path(folder) / "index", Path(folder) / "cache"
        built = _alone(build, index, corpus)
        first, again = (_alone(start, index, cache, asked[0]) for _ in range(2))
        starts = first | {"cached_start_s": again["start_s"]}
        return {"passages": size} | built | starts | _alone(search, index, corpus, plan)


def _alone(function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Call it in a process of its own, whose memory is then its own too, and with the service's threads."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **options).result()
