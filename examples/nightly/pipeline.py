"""The pipeline of pipeline.yaml in Python: `python examples/nightly/pipeline.py docs` runs it over that folder."""

import sys
from pathlib import Path

from sluice import Client, Pipeline

nightly = Pipeline(
    "nightly",
    collection="docs",
    folder=None,
    questions="nightly/questions.jsonl",
    chunk_tokens=None,
    embedding_variant=None,
    minimum=0.7,
    tolerance=0.02,
)
ingest = nightly.step(
    "ingest",
    "ingest",
    collection=nightly.collection,
    source={"type": "folder", "path": nightly.folder},
    prune=True,
)
reindex = nightly.step(
    "reindex",
    "reindex",
    needs=[ingest],
    collection=nightly.collection,
    chunk_tokens=nightly.chunk_tokens,
    embedding_variant=nightly.embedding_variant,
    switch=False,
)
live = nightly.step("live", "evaluate", needs=[reindex], collection=nightly.collection, input=nightly.questions)
new = nightly.step("new", "evaluate", collection=nightly.collection, input=nightly.questions, version=reindex.version)
switch = nightly.step(
    "switch",
    "switch",
    when=(new.recall_at_5 >= nightly.minimum)
    & (new.recall_at_5 >= live.recall_at_5 - nightly.tolerance)
    & (new.mrr >= live.mrr - nightly.tolerance),
    collection=nightly.collection,
    version=reindex.version,
)

switched = switch.state == "succeeded"
nightly.output("switched", switched)
nightly.output("version", switched.then(new.version, live.version))
nightly.output("recall_at_5", {"live": live.recall_at_5, "new": new.recall_at_5})
nightly.output("mrr", {"live": live.mrr, "new": new.mrr})
nightly.output("failed_documents", ingest.failed)
verdict = switched.then(
    "Switched from " + live.version + " to " + new.version,
    "Kept " + live.version + ", as " + new.version + " is not good enough",
)
nightly.output(
    "message",
    f"{verdict}: recall@5 {round(new.recall_at_5, 3)} (live {round(live.recall_at_5, 3)}, wanted {nightly.minimum}),"
    f" MRR {round(new.mrr, 3)} (live {round(live.mrr, 3)})",
)

if __name__ == "__main__":
    with Client() as sluice:
        sluice.put_artifact("nightly/questions.jsonl", Path(__file__).parent / "questions.jsonl")
        job = sluice.submit_job(nightly.with_parameters(folder=str(Path(sys.argv[1]).resolve())))
        print(sluice.wait(job.id).outputs["message"])
