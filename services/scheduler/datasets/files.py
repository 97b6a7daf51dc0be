"""The files of a data set, written part by part, so that memory holds one part at a time."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import BufferedIOBase
from tempfile import TemporaryFile
from typing import Final, cast

from pydantic import JsonValue

from services.scheduler.datasets.page import as_page
from services.scheduler.datasets.rows import Answer, Mined, Preference, Row, RowHash
from services.scheduler.datasets.summary import Summary
from services.scheduler.jobs.job_context import JobContext
from shared.contracts.jobs import DatasetSpec

__all__ = ["Inputs", "write_files"]

QUESTIONS: Final = "questions.jsonl"
ROW_FILES: Final = ("train", "test")
ANSWER_FILES: Final = ("answers", "test_answers")
PREFERENCE_FILES: Final = ("preferences", "test_preferences")
"""Names of Parquet files without their suffix: that of the training side, and that of the test side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the data are made of: sets with their digests, and how many `records` of feedback of which time."""

    sources: Sequence[JsonValue]
    records: int
    since: float | None
    until: float


async def write_files(
    context: JobContext,
    spec: DatasetSpec,
    version: str,
    summary: Summary,
    parts: AsyncIterator[Sequence[Mined]],
    inputs: Inputs,
) -> str:
    """Attach the files to the job. Returns the hash of the rows."""
    with ExitStack() as files, _Writers(files) as writers:
        async for part in parts:
            await asyncio.to_thread(writers.write, part)
        await asyncio.to_thread(writers.close)
        for name, file in writers.files.items():
            file.seek(0)
            await context.attach(name, file)
        made = writers.hash.hexdigest()
    manifest = _manifest(context, spec, version, summary, inputs, made)
    await context.attach("dataset.json", json.dumps(manifest, ensure_ascii=False, indent=1).encode())
    await context.attach("report.html", as_page(spec, version, made, summary, inputs.records, context.job.id))
    return made


class _Writers:
    """The files in which rows are."""

    def __init__(self, stack: ExitStack) -> None:
        self.files = {
            name: cast("BufferedIOBase", stack.enter_context(TemporaryFile()))  # noqa: SIM115  (the stack closes it)
            for name in (*map(_file, (*ROW_FILES, *ANSWER_FILES, *PREFERENCE_FILES)), QUESTIONS)
        }
        self.hash = RowHash()
        from services.scheduler.datasets.parquet import ANSWERS, PREFERENCES, ROWS, RowWriter

        columns = ((ROW_FILES, ROWS), (ANSWER_FILES, ANSWERS), (PREFERENCE_FILES, PREFERENCES))
        self._writers = {
            name: RowWriter(self.files[_file(name)], schema) for names, schema in columns for name in names
        }

    def __enter__(self) -> "_Writers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, part: Sequence[Mined]) -> None:
        """Add a part, all of whose examples are on one side."""
        side = any(one.is_test for one in part)
        self._write(ROW_FILES[side], [row for one in part for row in one.rows])
        self._write(ANSWER_FILES[side], [one.taught for one in part if one.taught is not None])
        self._write(PREFERENCE_FILES[side], [preference for one in part for preference in one.preferences])
        self.files[QUESTIONS].write(b"".join(_lines(part)))

    def close(self) -> None:
        """Doing it again changes nothing."""
        for writer in self._writers.values():
            writer.close()

    def _write(self, name: str, rows: Sequence[Row] | Sequence[Answer] | Sequence[Preference]) -> None:
        self.hash.add(name, rows)
        self._writers[name].write(rows)


def _file(name: str) -> str:
    return f"{name}.parquet"


def _lines(part: Iterable[Mined]) -> Iterable[bytes]:
    """The questions of the test side, as `evaluate` reads them."""
    for one in part:
        if one.is_test and one.rows:
            sources: JsonValue = list(one.sources) if isinstance(one.sources, tuple) else dict(one.sources)
            line: dict[str, JsonValue] = {"question": one.question, "sources": sources}
            if one.answer:
                line["answer"] = one.answer
            if one.origin == "synthetic":
                line["synthetic"] = True
            yield json.dumps(line, ensure_ascii=False).encode() + b"\n"


def _manifest(
    context: JobContext, spec: DatasetSpec, version: str, summary: Summary, inputs: Inputs, made: str
) -> dict[str, JsonValue]:
    feedback: JsonValue = None
    if spec.feedback:
        since = None if inputs.since is None or inputs.since == -math.inf else inputs.since
        feedback = {"records": inputs.records, "since": since, "until": inputs.until}
    return {
        "job": context.job.id,
        "hash": made,
        "collection": spec.collection,
        "version": version,
        "seed": spec.seed,
        "test_share": spec.test_share,
        "negatives": {
            "count": spec.negatives,
            "relative_margin": spec.relative_margin,
            "range_min": spec.range_min,
            "range_max": spec.range_max,
        },
        "train": summary.train.as_json(),
        "test": summary.test.as_json(),
        "preferences": summary.preferences,
        "documents": summary.documents,
        "left_out": {reason.value: count for reason, count in sorted(summary.left_out.items()) if count},
        "skipped": dict(sorted(summary.skipped.items())),
        "sources": list(inputs.sources),
        "feedback": feedback,
    }
