"""The supervisor of `sluice up`, over a real nats-server and tiny services."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import nats
import pytest
from nats.errors import Error as NatsError

from sluice.local.down import stop_running
from sluice.local.state import UpState
from tests.harness.supervisor import SupervisorProcess, gone, until


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_everything_becomes_ready_and_says_where_it_is(data: Path) -> None:
    with SupervisorProcess(data) as local:
        state = local.ready()
        assert list(state.services) == ["nats", "embedder", "scheduler", "gateway"]
        assert state.url == state.services["gateway"].url
        assert all(local.ask(name)["name"] == name for name in ("embedder", "scheduler", "gateway"))
        _, output = local.end(signal.SIGTERM)
    assert f"Sluice is ready at {state.url}" in output
    assert "sluice ingest ./docs" in output
    assert f"export SLUICE_URL={state.url}" in output


def test_services_get_their_place_and_what_they_need_of_the_users_own_environment(data: Path) -> None:
    own = {
        "TEST_OWN": "kept",
        "TEST_OTHER": "not asked for",
        "SLUICE_DATA_DIR": "elsewhere",
        "SLUICE_NATS_PASSWORD": "that of another broker",
        "SLUICE_ADMIN_KEY": "the gateway's",
        "AWS_SECRET_ACCESS_KEY": "the scheduler's",
        "HF_TOKEN": "the embedder's",
    }
    with SupervisorProcess(data, env=own, passed=("TEST_OWN",)) as local:
        state = local.ready()
        environment = local.ask("embedder")["environment"]
        assert local.ask("gateway")["environment"]["SLUICE_ADMIN_KEY"] == "the gateway's"
        assert "SLUICE_ADMIN_KEY" not in local.ask("scheduler")["environment"]
        assert local.ask("scheduler")["environment"]["AWS_SECRET_ACCESS_KEY"] == "the scheduler's"
        assert "AWS_SECRET_ACCESS_KEY" not in local.ask("gateway")["environment"]
        nats = environment_of(state.services["nats"].pid)
    assert not [name for name in nats if name.startswith(("SLUICE_", "AWS_", "HF_", "TEST_"))]
    sizes = ("SLUICE_HISTORY_BYTES", "SLUICE_PAYLOAD_BYTES")
    for number in ("SLUICE_HTTP_FD", "SLUICE_QUERY_WINDOW", "SLUICE_QUERY_SPARE", *sizes):
        assert int(environment.pop(number)) > 0
    assert environment == {
        "SLUICE_NATS_URL": state.services["nats"].url,
        "SLUICE_NATS_USER": "local",
        "SLUICE_NATS_PASSWORD_FILE": str(data / "nats.password"),
        "HF_TOKEN": "the embedder's",
        "SLUICE_DATA_DIR": str(data),
        "SLUICE_PIPELINES": str(data / "pipelines.yaml"),
        "HF_HUB_OFFLINE": "1",
        "SLUICE_BATCH_YIELDS": "true",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TEST_OWN": "kept",
    }


def environment_of(pid: int | None) -> list[str]:
    """The names in a process's environment."""
    return [line.partition("=")[0] for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if line]


async def refused(url: str) -> bool:
    """Whether the broker lets nobody in with this URL."""
    try:
        client = await nats.connect(url, allow_reconnect=False, connect_timeout=5, error_cb=_ignore)
    except NatsError:
        return True
    await client.close()
    return False


def logged(data: Path) -> str:
    """All that the processes have logged."""
    return "".join(log.read_text() for log in (data / "logs").iterdir())


async def _ignore(_: Exception) -> None:
    """A refusal is raised too."""


@pytest.mark.anyio
async def test_the_broker_admits_nobody_without_the_password_of_this_start(data: Path) -> None:
    used = set()
    for _ in range(2):
        with SupervisorProcess(data, ("embedder",)) as local:
            state = local.ready()
            full = str(state.nats_url)
            bare = state.services["nats"].url
            address = (data / "nats.url").read_text().strip()
            password = (data / "nats.password").read_text()
            assert address == full
            assert f":{password}@" in full
            assert len(password) == 43, "256 bits"
            assert await refused(bare)
            assert await refused(bare.replace("://", "://local:wrong@"))
            assert not await refused(full)
            _, output = local.end(signal.SIGTERM)
        assert password not in output + logged(data)
        used.add(password)
        assert not {"nats.url", "nats.password", "up.json"} & set(os.listdir(data))
    assert len(used) == 2


def test_nobody_else_can_look_into_the_data_folder(data: Path) -> None:
    data.mkdir(mode=0o755)
    (data / "up.json").write_text("{}")
    (data / "up.json").chmod(0o644)
    with SupervisorProcess(data, ("embedder",), umask=0) as local:
        local.ready()
        assert data.stat().st_mode & 0o777 == 0o700
        for name in ("up.json", "nats.url", "nats.password", "nats.conf"):
            assert (data / name).stat().st_mode & 0o777 == 0o600, name
        assert local.end(signal.SIGTERM)[0] == 0


def test_no_process_shows_the_password_in_its_arguments(data: Path) -> None:
    with SupervisorProcess(data, ("embedder",)) as local:
        local.ready()
        password = (data / "nats.password").read_text()
        for pid in (*local.pids, local.process.pid):
            assert password not in Path(f"/proc/{pid}/cmdline").read_text()
            assert password not in Path(f"/proc/{pid}/environ").read_text()


def test_a_crashed_service_comes_back_at_the_same_address_and_callers_wait_for_it(data: Path) -> None:
    with SupervisorProcess(data) as local:
        before = local.ready().services["embedder"]
        dead = local.kill("embedder")
        until(lambda: gone(dead))
        assert local.ask("embedder")["pid"] != dead
        after = until(lambda: s if (s := local.state.services["embedder"]).state == "ready" and s.restarts else None)
        _, output = local.end(signal.SIGTERM)
    assert (after.url, after.restarts) == (before.url, 1)
    assert "embedder was killed by SIGKILL; starting it again" in output
    assert "embedder is ready again" in output


def test_a_crashed_broker_comes_back_at_the_same_address(data: Path) -> None:
    with SupervisorProcess(data, ("embedder",)) as local:
        before = local.ready()
        local.kill("nats")
        until(lambda: local.state.services["nats"].restarts and local.state.ready)
        assert local.state.nats_url == before.nats_url
        assert local.state.services["embedder"].pid == before.services["embedder"].pid


def test_what_a_crashed_service_had_started_ends_with_it(data: Path) -> None:
    with SupervisorProcess(data, ("embedder",), flags=("family",)) as local:
        local.ready()
        grandchild = local.ask("embedder")["grandchild"]
        local.kill("embedder")
        until(lambda: gone(grandchild))


def test_stopping_goes_from_the_gateway_to_the_broker_and_leaves_nothing(data: Path) -> None:
    with SupervisorProcess(data, ("scheduler", "embedder", "gateway")) as local:
        local.ready()
        pids = local.pids
        status, output = local.end(signal.SIGINT)
        journal = local.journal.read_text().split()
    assert status == 0
    assert "Stopped after" in output
    assert journal == ["gateway", "embedder", "scheduler"]
    assert "Server Exiting" in (data / "logs" / "nats.log").read_text()
    assert all(gone(pid) for pid in pids)
    assert not (data / "up.json").exists()


def test_a_second_ctrl_c_kills_at_once(data: Path) -> None:
    with SupervisorProcess(data, ("embedder",), flags=("deaf",)) as local:
        local.ready()
        pids = local.pids
        local.process.send_signal(signal.SIGINT)
        until(lambda: local.state.services["embedder"].state == "stopping")
        status, output = local.end(signal.SIGINT)
    assert status == 130
    assert "Killed" in output
    assert all(gone(pid) for pid in pids)


def test_nothing_survives_a_supervisor_that_is_killed(data: Path) -> None:
    with SupervisorProcess(data, flags=("deaf", "family")) as local:
        local.ready()
        pids = [*local.pids, *(local.ask(name)["grandchild"] for name in ("embedder", "scheduler", "gateway"))]
        local.process.kill()
        local.process.wait()
        until(lambda: all(gone(pid) for pid in pids))
    assert UpState.running(data) is None


def test_a_new_supervisor_takes_over_after_one_that_was_killed(data: Path) -> None:
    with SupervisorProcess(data) as first:
        first.ready()
        first.process.kill()
        first.process.wait()
        with SupervisorProcess(data) as second:
            second.ready()
            assert second.end(signal.SIGTERM)[0] == 0


def test_a_service_that_never_starts_ends_it_all_with_the_end_of_its_log(data: Path) -> None:
    program = [sys.executable, "-c", "print('no model here', flush=True); raise SystemExit(4)"]
    with SupervisorProcess(data, ("embedder",), argv=program) as local:
        status, output = local.end()
    assert status == 1
    assert "embedder does not start: it ended with exit status 4" in output
    assert "no model here" in output
    assert "sluice doctor" in output


def test_a_program_that_does_not_exist_is_a_failure_to_start(data: Path) -> None:
    with SupervisorProcess(data, ("embedder",), argv=["/does/not/exist"]) as local:
        status, output = local.end()
    assert status == 1
    assert "cannot be run (No such file or directory)" in output


def test_two_supervisors_never_share_a_data_folder(data: Path) -> None:
    with SupervisorProcess(data) as local:
        url = local.ready().url
        status, output = _sluice("up", "--data", str(data), "--port", "0")
        assert local.process.poll() is None
    assert status == 1
    assert f"in use by the Sluice at {url}" in " ".join(output.split())


def test_a_taken_port_is_named(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, output = _sluice("up", "--data", str(data), "--port", str(port))
    assert status == 1
    assert f"cannot listen on 127.0.0.1:{port}" in output
    assert "--port" in output


def test_down_stops_what_runs_and_is_clear_when_nothing_does(data: Path) -> None:
    with SupervisorProcess(data) as local:
        pid = local.ready().pid
        status, output = _sluice("down", "--data", str(data), "--json")
        assert (status, json.loads(output)) == (0, {"stopped": True, "pid": pid})
        assert local.process.wait(5) == 0
    status, output = _sluice("down", "--data", str(data))
    assert status == 0
    assert "No Sluice runs on" in output


def test_down_never_signals_a_process_that_only_has_the_same_number(data: Path) -> None:
    data.mkdir()
    stranger = UpState(pid=os.getpid(), started="another time", url="", nats_url=None, ready=True)
    stranger.write(data)
    assert stop_running(data) is None
    assert not (data / "up.json").exists()


def test_logs_of_the_last_starts_are_kept(data: Path) -> None:
    for _ in range(2):
        with SupervisorProcess(data, ("embedder",)) as local:
            local.ready()
            local.end(signal.SIGTERM)
    assert "embedder serves" in (data / "logs" / "embedder.log").read_text()
    assert "embedder serves" in (data / "logs" / "embedder.log.1").read_text()


def test_a_service_is_not_ready_while_its_readiness_says_so(data: Path) -> None:
    program = (
        "import os, socket, http.server as h\n"
        "class Handler(h.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(503); self.end_headers()\n"
        '        self.wfile.write(b\'{"detail": "the model loads"}\')\n'
        "server = h.HTTPServer(('', 0), Handler, False)\n"
        "server.socket = socket.socket(fileno=int(os.environ['SLUICE_HTTP_FD']))\n"
        "server.serve_forever()\n"
    )
    with SupervisorProcess(data, ("gateway",), argv=[sys.executable, "-c", program]) as local:
        url = until(lambda: s.url if (s := UpState.running(data)) and s.services["gateway"].pid else None)
        assert httpx.get(f"{url}/readyz", trust_env=False, timeout=30).status_code == 503
        assert not local.state.ready
        assert local.state.services["gateway"].state == "starting"


def _sluice(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "sluice", *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout + done.stderr
