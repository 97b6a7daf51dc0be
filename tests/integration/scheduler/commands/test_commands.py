"""Commands as processes: what they say and leave is kept, and nothing of them stays behind."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.contracts.jobs import CommandSpec, Executor, JobState
from tests.harness.broker import NatsServer
from tests.harness.command_harness import CommandHarness, WorkerProcess
from tests.harness.processes import ServiceProcess
from tests.harness.stage_harness import open_stage_harness, until

pytestmark = pytest.mark.anyio

FAMILY = """
import os, signal, subprocess, sys, time
pause = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
inside = subprocess.Popen([sys.executable, "-c", pause])
outside = subprocess.Popen([sys.executable, "-c", pause], start_new_session=True)
print("family", os.getpid(), inside.pid, outside.pid, flush=True)
signal.pause()
"""
"""A process with a child in its own group and one that has left it, both deaf to SIGTERM."""


def python(code: str, **members: object) -> CommandSpec:
    return CommandSpec(command=(sys.executable, "-c", code), **members)


def shell(script: str, **members: object) -> CommandSpec:
    return CommandSpec(command=("sh", "-c"), args=(script,), **members)


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def family(message: str) -> list[int]:
    return [int(word) for word in message.split()[1:]]


async def all_gone(pids: list[int]) -> None:
    async def gone() -> bool:
        return not any(alive(pid) for pid in pids)

    await until(gone, "no process left")


@pytest.fixture
async def command_harness(broker: NatsServer) -> AsyncIterator[CommandHarness]:
    async with open_stage_harness(broker.url, ack_wait=1.0) as harness:
        yield CommandHarness(harness, commands="process")


async def test_what_a_command_prints_is_kept_and_its_outputs_are_the_jobs(command_harness: CommandHarness) -> None:
    job = await command_harness.succeeds(
        shell(
            'echo one; echo "::output:: {\\"rows\\": 1, \\"of\\": \\"x\\"}"; echo "::progress:: 2/3";'
            " echo two; printf '::output:: {\"rows\": 2}'"
        )
    )
    assert job.outputs == {"rows": 2, "of": "x"}
    assert (job.progress.done, job.progress.total, job.progress.message) == (2, 3, "two")
    assert job.artifacts == ("log.txt",)
    assert (await command_harness.log()).splitlines()[:1] == ["one"]
    assert (await command_harness.log()).splitlines()[-1] == '::output:: {"rows": 2}'


async def test_lines_are_shown_while_the_command_runs(command_harness: CommandHarness, tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    await command_harness.submit(shell(f"echo waiting; cat {fifo}"))
    async with command_harness.working():
        await command_harness.says("waiting")
        fifo.write_text("went on\n")
        assert (await command_harness.ended()).progress.message == "went on"


async def test_an_exit_code_fails_the_job_with_the_last_lines_of_standard_error(
    command_harness: CommandHarness,
) -> None:
    job = await command_harness.run(shell("echo fine; echo 'no such model' >&2; exit 3"))
    assert (job.state, job.attempt) == (JobState.FAILED, 1)
    assert job.error is not None
    assert job.error.type.endswith("command-failed")
    assert "exit code 3:\nno such model" in job.error.detail
    assert job.error.model_extra == {"exit_code": 3}
    assert sorted((await command_harness.log()).split("\n")) == ["", "fine", "no such model"]


async def test_exit_code_75_asks_for_another_try(command_harness: CommandHarness) -> None:
    job = await command_harness.succeeds(shell('test "$SLUICE_ATTEMPT" = 2 || exit 75'))
    assert job.attempt == 2


async def test_a_program_that_cannot_be_run_is_named(command_harness: CommandHarness) -> None:
    job = await command_harness.run(CommandSpec(command=("/no/such/program",)))
    assert job.error is not None
    assert "cannot run '/no/such/program'" in job.error.detail


async def test_an_output_that_is_no_json_object_is_told_and_harms_nothing_else(command_harness: CommandHarness) -> None:
    job = await command_harness.succeeds(shell("echo '::output:: [1]'; echo '::output:: {\"a\": 1}'"))
    assert job.outputs == {"a": 1}
    (error,) = job.errors
    assert "[1]" in error.detail


async def test_the_environment_is_what_the_job_says_and_no_secret_of_the_schedulers(
    command_harness: CommandHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_NATS_PASSWORD", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    code = "import json, os; print('::output::', json.dumps(dict(os.environ) | {'cwd': os.getcwd()}))"
    job = await command_harness.succeeds(python(code, env={"MINE": "yes", "LANG": "C"}))
    seen = dict(job.outputs)
    folder = seen.pop("cwd")
    assert seen.pop("HOME") == seen.pop("TMPDIR") == folder
    assert (seen["MINE"], seen["LANG"], seen["SLUICE_JOB"], seen["SLUICE_TENANT"]) == ("yes", "C", "j1", "t")
    assert "secret" not in str(seen.values())
    assert set(seen) <= {
        *("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "MINE", "SLUICE_JOB", "SLUICE_TENANT", "SLUICE_ATTEMPT")
    }
    assert not os.path.exists(str(folder))  # noqa: ASYNC240


async def test_of_a_long_log_the_last_part_is_kept(broker: NatsServer) -> None:
    async with open_stage_harness(broker.url, ack_wait=1.0) as harness:
        command_harness = CommandHarness(harness, commands="process", command_log_mb=1)
        await command_harness.succeeds(python("for i in range(300_000): print(f'line {i:09}')"))
        log = await command_harness.log()
    assert len(log) <= 2**20
    assert log.startswith("line ")
    assert log.splitlines()[-1] == "line 000299999"
    assert len(log) > 2**20 - 100


async def test_a_line_without_end_is_broken_and_not_held_in_memory(command_harness: CommandHarness) -> None:
    await command_harness.succeeds(python("import sys; sys.stdout.write('x' * 1_000_000)"))
    assert max(len(line) for line in (await command_harness.log()).splitlines()) <= 128 * 1024


async def test_several_completions_know_their_index(command_harness: CommandHarness) -> None:
    script = 'echo "I am $JOB_COMPLETION_INDEX"; echo "::output:: {\\"i$JOB_COMPLETION_INDEX\\": true}"'
    job = await command_harness.succeeds(shell(script, completions=3, parallelism=2))
    assert job.outputs == {"i0": True, "i1": True, "i2": True}
    assert {f"[{index}] I am {index}" for index in range(3)} <= set((await command_harness.log()).splitlines())


async def test_a_failure_within_the_backoff_limit_is_started_again(
    command_harness: CommandHarness, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    job = await command_harness.succeeds(shell(f"test -e {mark} || {{ touch {mark}; exit 1; }}", backoff_limit=1))
    assert job.attempt == 1


@pytest.mark.parametrize("grace", [0.0, 30.0])
async def test_a_cancel_ends_the_command_and_all_that_it_started(broker: NatsServer, grace: float) -> None:
    async with open_stage_harness(broker.url, ack_wait=1.0) as harness:
        command_harness = CommandHarness(harness, commands="process", command_grace_seconds=grace)
        await command_harness.submit(python(FAMILY))
        async with command_harness.working():
            pids = family((await command_harness.says("family")).progress.message)
            await command_harness.job_store.cancel("t", "j1")
            job = await command_harness.ended()
    assert job.state is JobState.CANCELLED
    assert not any(alive(pid) for pid in pids)
    assert job.artifacts == ("log.txt",)


async def test_a_command_that_ends_leaves_no_child_behind(command_harness: CommandHarness) -> None:
    job = await command_harness.succeeds(
        python(FAMILY.replace('signal.pause()\n"""', "").replace("\nsignal.pause()\n", "\n"))
    )
    assert not any(alive(pid) for pid in family(job.progress.message))


async def test_a_cancelled_command_may_tidy_up(command_harness: CommandHarness) -> None:
    await command_harness.submit(shell("trap 'echo tidied; exit 0' TERM; echo ready; while :; do sleep 0.01; done"))
    async with command_harness.working():
        await command_harness.says("ready")
        await command_harness.job_store.cancel("t", "j1")
        assert (await command_harness.ended()).state is JobState.CANCELLED
    assert "tidied" in await command_harness.log()


async def test_a_command_of_a_worker_that_stops_is_ended_and_run_by_the_next(
    command_harness: CommandHarness, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    await command_harness.submit(
        shell(f"echo $$; test -e {mark} && exit 0; touch {mark}; echo started; exec sleep 600")
    )
    async with command_harness.working():
        await command_harness.says("started")
    async with command_harness.working():
        job = await command_harness.ended()
    assert (job.state, job.attempt, job.crashes) == (JobState.SUCCEEDED, 1, 0)


async def test_commands_are_off_unless_they_are_allowed(broker: NatsServer) -> None:
    async with open_stage_harness(broker.url, ack_wait=1.0) as harness:
        job = await CommandHarness(harness).run(shell("echo never"))
    assert job.error is not None
    assert job.error.type.endswith("command-refused")
    assert "SLUICE_COMMANDS=process" in job.error.detail


async def test_kubernetes_is_not_taken_from_somebodys_kubeconfig_unasked(command_harness: CommandHarness) -> None:
    job = await command_harness.run(shell("echo never", executor=Executor.KUBERNETES))
    assert job.error is not None
    assert "SLUICE_KUBERNETES=true" in job.error.detail


async def test_an_image_alone_cannot_run_without_a_cluster(command_harness: CommandHarness) -> None:
    job = await command_harness.run(CommandSpec(image="busybox", args=("echo",)))
    assert job.error is not None
    assert job.error.type.endswith("invalid-request")


async def test_no_process_outlives_a_worker_that_is_killed(command_harness: CommandHarness, broker: NatsServer) -> None:
    await command_harness.submit(python(FAMILY))
    with WorkerProcess(broker.url, commands="process") as worker:
        pids = family((await command_harness.says("family")).progress.message)
        assert all(alive(pid) for pid in pids)
        worker.kill()
        await all_gone(pids)


async def test_a_command_of_a_worker_that_was_killed_is_run_by_the_next(
    command_harness: CommandHarness, broker: NatsServer, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    await command_harness.submit(shell(f"test -e {mark} && exit 0; touch {mark}; echo started; exec sleep 600"))
    with WorkerProcess(broker.url, commands="process") as worker:
        await command_harness.says("started")
        worker.kill()
    async with command_harness.working():
        job = await command_harness.ended()
    assert (job.state, job.attempt, job.crashes) == (JobState.SUCCEEDED, 1, 1)


async def test_the_scheduler_runs_commands_where_it_is_allowed_to(
    command_harness: CommandHarness, broker: NatsServer, tmp_path: Path
) -> None:
    await command_harness.submit(shell("echo '::output:: {\"ran\": true}'"))
    with ServiceProcess("services.scheduler", tmp_path, nats_url=broker.url, commands="process", reader_workers=1):
        assert (await command_harness.ended()).outputs == {"ran": True}
