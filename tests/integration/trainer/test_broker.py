"""The trainer on the broker: what its credential reaches, and how checkpoints are kept."""

import io
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.js import JetStreamContext

from services.trainer.archive import BrokenCheckpointError, pack, unpack
from services.trainer.broker import connected
from services.trainer.checkpoints import JobCheckpoints
from services.trainer.settings import TrainerSettings
from shared.contracts.models import ModelKind
from shared.contracts.problems import Problem, ProblemType
from shared.nats.settings import QueueSettings
from shared.nats.subjects import ARTIFACTS, TRAINING
from shared.nats.topology import Topology
from shared.stores.artifacts import Artifacts
from shared.stores.models import ModelStore
from shared.stores.training import TrainingCheckpoints
from tests.harness.secured_broker import SecuredBroker, secured_broker

pytestmark = pytest.mark.anyio


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[SecuredBroker]:
    with secured_broker(tmp_path / "broker") as broker:
        async with broker.client("admin") as admin:
            jetstream = admin.client.jetstream()
            await Topology(jetstream, QueueSettings()).ensure()
            await Artifacts(jetstream).put("t", "d1/train.parquet", b"rows")
        yield broker


@pytest.fixture
async def jetstream(secured: SecuredBroker) -> AsyncIterator[JetStreamContext]:
    async with connected(TrainerSettings(**secured.settings("trainer")), 30.0) as found:
        yield found


def checkpoint(folder: Path, text: str, size: int = 10) -> Path:
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(text)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "weights.safetensors").write_bytes(os.urandom(size))
    (folder / "training_args.bin").write_bytes(b"\x80pickle")
    return folder


async def test_its_credential_reads_data_and_writes_models_and_checkpoints(
    jetstream: JetStreamContext, secured: SecuredBroker, tmp_path: Path
) -> None:
    assert await Artifacts(jetstream).get("t", "d1/train.parquet") == b"rows"
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    stored = await ModelStore(jetstream).put("t", model, ModelKind.EMBEDDER)
    await ModelStore(jetstream).fetch("t", stored.name, tmp_path / "fetched")
    await TrainingCheckpoints(jetstream).put("t", "j1", 5, io.BytesIO(b"x"))
    async with secured.client("trainer") as probe:
        for subject in (f"$O.{ARTIFACTS}.C.x", "$KV.jobs.t.j1", "job.train.normal.t", "query.embed.default.batch.t"):
            assert not await probe.may_publish(subject), subject
        for subject in ("job.>", "query.>", "_INBOX_scheduler.>", "$KV.keys.>"):
            assert not await probe.may_subscribe(subject), subject


async def test_a_wrong_password_is_a_problem_that_names_the_user(secured: SecuredBroker, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong")
    settings = TrainerSettings(**(secured.settings("trainer") | {"nats_password_file": tmp_path / "password"}))
    with pytest.raises(Problem, match="'trainer'") as caught:
        async with connected(settings, 30.0):
            pass
    assert caught.value.kind is ProblemType.TRAINING_REFUSED


async def test_the_last_two_checkpoints_are_kept_and_a_damaged_one_is_passed_over(
    jetstream: JetStreamContext, tmp_path: Path
) -> None:
    store = TrainingCheckpoints(jetstream)
    for step in (5, 10, 15):
        pack(checkpoint(tmp_path / f"c{step}", str(step)), tmp_path / "tar", most_bytes=10**6)
        await store.put("t", "j1", step, io.BytesIO((tmp_path / "tar").read_bytes()))
    newest, before = await store.list("t", "j1")
    assert (newest.step, before.step) == (15, 10)
    job = JobCheckpoints(jetstream, "t", "j1", tmp_path, most_bytes=10**6, patience=5.0)
    assert await job.restore(tmp_path / "restored") == newest
    assert (tmp_path / "restored" / "state.json").read_text() == "15"
    assert sorted(path.name for path in (tmp_path / "restored").rglob("*") if path.is_file()) == [
        "state.json",
        "weights.safetensors",
    ]
    await store.put("t", "j1", 20, io.BytesIO(b"not an archive"))
    (found, _), restored = await store.list("t", "j1"), await job.restore(tmp_path / "again")
    assert found.step == 20
    assert restored is not None
    assert restored.step == 15
    await store.delete("t", "j1")
    assert await job.restore(tmp_path / "none") is None
    assert await jetstream.stream_info(f"OBJ_{TRAINING}")


def test_an_archive_leads_nowhere_else(tmp_path: Path) -> None:
    import tarfile

    for name, kind in (("../out", tarfile.REGTYPE), ("/etc/x", tarfile.REGTYPE), ("link", tarfile.SYMTYPE)):
        with tarfile.open(tmp_path / "tar", "w") as tar:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        with pytest.raises(BrokenCheckpointError):
            unpack(tmp_path / "tar", tmp_path / name.strip("./").replace("/", "-"), most_bytes=10**6)


def test_a_checkpoint_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="SLUICE_TRAINING_CHECKPOINT_MB"):
        pack(checkpoint(tmp_path / "c", "x", 2000), tmp_path / "tar", most_bytes=1000)
