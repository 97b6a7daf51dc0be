"""Data sets and models that train in seconds, and a job queue that trains."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

from services.scheduler.jobs.kinds import JobDependencies, JobKind, Pool
from services.scheduler.pipelines.notifier import JobNotifier
from services.scheduler.pipelines.pipeline import pipeline as make_pipeline
from services.scheduler.settings import SchedulerSettings
from services.scheduler.sweeps.models import TrialModels
from services.scheduler.sweeps.sweep import SweepJob
from services.scheduler.training.checks import TrainingChecks
from services.scheduler.training.train import TrainJob
from shared.contracts.jobs import Job, JobState, TrainSpec
from shared.contracts.models import ModelKind
from shared.stores.collections import Collections
from shared.stores.models import ModelStore
from shared.stores.releases import ReleaseStore
from shared.stores.training import TrainingCheckpoints
from tests.harness.command_harness import CommandHarness
from tests.harness.stage_harness import StageHarness, open_stage_harness

__all__ = [
    "ASKED",
    "SAID",
    "THINGS",
    "TrainHarness",
    "make_bert",
    "open_train_harness",
    "parquet",
    "parquet_of",
    "rows",
    "ruled_rows",
]

THINGS: Final = (
    "anchor", "barrel", "candle", "drum", "engine", "feather", "guitar", "hammer", "island", "jacket", "kettle",
    "ladder", "mirror", "needle", "orange", "pencil", "quilt", "ribbon", "saddle", "table", "umbrella", "violin",
    "wagon", "yarn",
)  # fmt: skip
CODES: Final = tuple(f"zq{number:02}" for number in range(len(THINGS)))
"""What a thing is called in questions: a word that says nothing to a model that was not trained on these rows."""

ASKED: Final = ("where is", "who has", "what is", "show me", "find", "tell of")
SAID: Final = ("lies in the kitchen", "stands in the garden", "was sold in spring", "is made of wood")


def rows(
    *, first: int = 0, last: int = len(THINGS), negatives: int = 1, asked: Sequence[str] = ASKED
) -> list[dict[str, Any]]:
    """Questions by codes, whose passages name the things that the codes stand for."""
    chance = random.Random(7)
    made = []
    for number in range(first, last):
        for place, words in enumerate(asked):
            others = [THINGS[other] for other in range(len(THINGS)) if other != number]
            made.append(
                {
                    "question": f"{words} {CODES[number]}",
                    "positive": f"the {THINGS[number]} {SAID[place % len(SAID)]}",
                    "negatives": [f"the {other} {SAID[0]}" for other in chance.sample(others, negatives)],
                    "documents": [f"{THINGS[number]}.md"],
                    "origin": "synthetic",
                }
            )
    return made


def ruled_rows(asked: Sequence[str] = ASKED[:4]) -> list[dict[str, Any]]:
    """Rows of which the place answers a question, whatever the thing: what is learned of some holds for the others."""
    return [
        {**line, "positive": f"the {thing} {SAID[0]}", "negatives": [f"the {thing} {said}" for said in SAID[2:]]}
        for number, thing in enumerate(THINGS)
        for line in rows(first=number, last=number + 1, asked=asked)
    ]


def parquet(lines: Sequence[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.list_(pa.string())
    schema = pa.schema(
        [
            ("question", pa.string()),
            ("positive", pa.string()),
            ("negatives", texts),
            ("documents", texts),
            ("origin", pa.string()),
        ]
    )
    file = BytesIO()
    pq.write_table(pa.Table.from_pylist(list(lines), schema=schema), file)
    return file.getvalue()


def parquet_of(lines: Sequence[dict[str, Any]]) -> bytes:
    """Rows of whatever columns they have."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = BytesIO()
    pq.write_table(pa.Table.from_pylist(list(lines)), file)
    return file.getvalue()


def make_bert(folder: Path, *, dropout: float = 0.0, layers: int = 2) -> Path:
    """An embedding model of random weights that knows the words of the rows above."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    bert = folder.with_name(f"{folder.name}-bert")
    bert.mkdir(parents=True)
    words = {word for text in (*THINGS, *CODES, *ASKED, *SAID, "the") for word in text.split()}
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (bert / "vocab.txt").write_text("\n".join([*marks, *sorted(words)]) + "\n")
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(marks) + len(words),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    BertModel(config).save_pretrained(bert)
    BertTokenizerFast(str(bert / "vocab.txt"), model_max_length=64).save_pretrained(bert)
    transformer = Transformer(str(bert))
    model = SentenceTransformer(modules=[transformer, Pooling(32)], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


class TrainHarness(CommandHarness):
    """Puts data sets on the broker, and runs trainings as jobs of the tenant `t`."""

    patience = 300.0

    def __init__(self, harness: StageHarness, url: str, **settings: Any) -> None:
        super().__init__(harness)
        self.models = ModelStore(harness.jetstream)
        self.checkpoints = TrainingCheckpoints(harness.jetstream)
        self.scheduler_settings = SchedulerSettings(**({"nats_url": url, "command_grace_seconds": 5.0} | settings))

    def kinds(self) -> dict[str, JobKind]:
        job = TrainJob(self.scheduler_settings, self.artifacts, self.checkpoints)
        sweep = SweepJob(
            job_store=self.job_store,
            notifier=JobNotifier(self.harness.client),
            trial_models=TrialModels(
                models=self.models,
                collections=Collections(self.harness.jetstream),
                releases=ReleaseStore(self.harness.jetstream),
            ),
            artifacts=self.artifacts,
            checks=TrainingChecks(settings=self.scheduler_settings, artifacts=self.artifacts, models=self.models),
        )
        parts = cast(
            "JobDependencies", SimpleNamespace(bus=self._bus, job_store=self.job_store, artifacts=self.artifacts)
        )
        return {
            "pipeline": JobKind(name="pipeline", pool=Pool.FLOW, perform=make_pipeline(parts)),
            "train": JobKind(name="train", pool=Pool.LONG, perform=job),
            "sweep": JobKind(name="sweep", pool=Pool.SWEEP, perform=sweep),
        }

    async def put_rows(self, train: Sequence[dict[str, Any]], test: Sequence[dict[str, Any]], name: str = "d1") -> None:
        await self.artifacts.put("t", f"{name}/train.parquet", parquet(train))
        await self.artifacts.put("t", f"{name}/test.parquet", parquet(test))
        await self.artifacts.put("t", f"{name}/dataset.json", b'{"hash": "5eed"}')

    async def put_files(self, name: str = "d1", **files: Sequence[dict[str, Any]]) -> None:
        """Parquet files by their names without the suffix."""
        for file, lines in files.items():
            await self.artifacts.put("t", f"{name}/{file}.parquet", parquet_of(lines))
        await self.artifacts.put("t", f"{name}/dataset.json", b'{"hash": "5eed"}')

    async def put_base(self, folder: Path) -> str:
        return (await self.models.put("t", folder, ModelKind.EMBEDDER)).name

    def spec(self, base: str = "", **members: Any) -> TrainSpec:
        given: dict[str, Any] = {
            "target": "embedder",
            "dataset": "d1",
            "base": base,
            "epochs": 4,
            "batch": 8,
            "learning_rate": 5e-3,
            "negatives": 1,
        }
        return TrainSpec(**(given | members))

    async def trains(self, spec: TrainSpec, job: str = "j1") -> Job:
        async with self.working():
            ended = await self.ended(await self.submit(spec, job))
        assert ended.state is JobState.SUCCEEDED, (ended.error, await self.log(job))
        return ended


@asynccontextmanager
async def open_train_harness(url: str, **settings: Any) -> AsyncIterator[TrainHarness]:
    async with open_stage_harness(url, ack_wait=1.0) as harness:
        yield TrainHarness(harness, url, **settings)
