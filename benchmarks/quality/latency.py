"""What reranking costs a query: `python -m benchmarks.quality.latency`.

`sluice up` with the corpus *packages* is asked its questions one at a time, each without and with the stage `rerank`
(late interaction, 40 candidates) in turns. The figures are medians of milliseconds: of the whole query over HTTP, and
of the work of single stages.
"""

import argparse
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Final

import httpx

from benchmarks import suite
from benchmarks.quality.corpora import Half, load
from benchmarks.quality.front_door import FrontDoor
from tests.harness.platform import Platform

CORPUS: Final = "packages"
PIPELINES: Final = ("default", "rerank")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=200)
    arguments = parser.parse_args()

    corpus = load(CORPUS)
    asked = [one.text for one in corpus.of(Half.TEST) if one.relevant][: arguments.questions]
    whole: defaultdict[str, list[float]] = defaultdict(list)
    stages: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as work, Platform(Path(work) / "platform") as platform:
        collection = FrontDoor(platform).ingest(corpus)
        with httpx.Client(base_url=platform.url, timeout=60, trust_env=False) as http:
            for number, question in enumerate(asked):
                for name in PIPELINES if number % 2 else reversed(PIPELINES):
                    body = {"question": question, "collection": collection, "pipeline": name}
                    timings = http.post("/v1/query", json=body).raise_for_status().json()["timings"]
                    whole[name].append(timings["total_ms"])
                    for stage in timings["stages"]:
                        stages[name, stage["stage"]].append(stage["worked_ms"])
    for name in PIPELINES:
        parts = ", ".join(
            f"{stage} {statistics.median(values):.1f}" for (of, stage), values in stages.items() if of == name
        )
        suite.say(f"{name:8} {statistics.median(whole[name]):.1f} ms; {parts}; {len(asked)} questions")
    ratio = statistics.median(whole["rerank"]) / statistics.median(whole["default"])
    suite.say(f"with rerank {ratio:.2f} times the whole query; {len(corpus.documents)} documents")


if __name__ == "__main__":
    main()
