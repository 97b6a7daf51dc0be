"""What query expansion changes: `python -m benchmarks.quality.expansion`.

`sluice up --llm smollm2` is asked the questions that people wrote of the corpus *faq*, of the half that nothing was
chosen on: without the stage `expand`, with paraphrases, with a passage, and with both. The figures are nDCG@10 and its
difference to no expansion, with 95 % bootstrap intervals over questions.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Final

from benchmarks import suite
from benchmarks.quality.corpora import Half, Kind, load
from benchmarks.quality.front_door import FrontDoor
from benchmarks.quality.measures import difference, interval, measured, ranked
from tests.harness.platform import Platform

CORPUS: Final = "faq"
PARAMS: Final = {
    "none": None,
    "paraphrases": "{paraphrases: 2, passage: false}",
    "passage": "{paraphrases: 0, passage: true}",
    "both": "{paraphrases: 2, passage: true}",
}
START: Final = 600.0
"""Seconds until the language model is ready, once converted for the first time."""


def pipelines() -> str:
    """The pipelines file: one for each case, named as it is."""
    lines = ["pipelines:"]
    for name, params in PARAMS.items():
        first = f"{{stage: expand, params: {params}}}, " if params else ""
        lines.append(f"  {name}: [{first}embed, retrieve, generate]")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=120, help="at most, evenly over the set")
    arguments = parser.parse_args()

    corpus = load(CORPUS)
    asked = [one for one in corpus.of(Half.TEST) if one.relevant and one.kind is Kind.QUESTIONS]
    asked = asked[:: max(1, len(asked) // arguments.questions)]
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "pipelines.yaml"
        file.write_text(pipelines())
        with Platform(Path(work) / "platform", pipelines=file, patience=START, llm="smollm2") as platform:
            door = FrontDoor(platform)
            collection = door.ingest(corpus)
            scores: dict[str, list[float]] = {}
            for name in PARAMS:
                found = door.ask(collection, asked, pipeline=name, generate={"max_tokens": 1, "decline": False})
                scores[name] = [
                    measured(ranked(one.documents), question.relevant)["ndcg@10"]
                    for one, question in zip(found, asked, strict=True)
                ]
                mean, other = interval(scores[name]), difference(scores[name], scores["none"])
                milliseconds = sorted(one.milliseconds for one in found)[len(found) // 2]
                suite.say(
                    f"{name:12} {mean['mean']:.3f} [{mean['low']:.3f}, {mean['high']:.3f}]  "
                    f"{other['mean']:+.3f} [{other['low']:+.3f}, {other['high']:+.3f}]  "
                    f"{milliseconds:.0f} ms, {len(found)} questions"
                )


if __name__ == "__main__":
    main()
