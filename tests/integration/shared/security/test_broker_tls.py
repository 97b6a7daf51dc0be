"""The connection to the broker: who vouches for it, what it is called, who the client is, and its quiet end."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared.security.certificates import Authority
from tests.harness.broker import NatsServer
from tests.harness.processes import ServiceProcess

Start = Callable[..., ServiceProcess]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a certificate for the broker's address, one for another name, and a client's."""
    folder = tmp_path_factory.mktemp("certificates")
    for name, host in (("right", "127.0.0.1"), ("other", "elsewhere.example"), ("client", "embedder")):
        Authority(folder).issue(name, [host])
    (folder / "strangers").mkdir()
    Authority(folder / "strangers").issue("stranger", ["127.0.0.1"])
    return folder


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(server: NatsServer, **settings: object) -> ServiceProcess:
            url = server.url.replace("nats://", "tls://")
            process = ServiceProcess("tests.harness.programs.stage", tmp_path, **{"nats_url": url} | settings)
            stack.push(process.__exit__)
            process.start()
            return process

        yield start


def server(folder: Path, certificates: Path, name: str = "right", **options: object) -> NatsServer:
    """A broker with one of the certificates; `options` are further ones of its tls block."""
    folder.mkdir(exist_ok=True)
    rows = {"cert_file": f"{certificates}/{name}.crt", "key_file": f"{certificates}/{name}.key"}
    rows |= {"ca_file": f"{certificates}/ca.crt", "handshake_first": "auto"} | {k: str(v) for k, v in options.items()}
    lines = [f"  {key}: {value if value in ('true', 'false') else repr(value)}\n" for key, value in rows.items()]
    (folder / "tls.conf").write_text(f"tls {{\n{''.join(lines)}}}\n")
    return NatsServer(folder / "nats", "-c", str(folder / "tls.conf"))


def says(process: ServiceProcess, reason: str) -> None:
    """Wait until the service has said something; it may end."""
    for _ in range(600):
        if reason in process.log:
            break
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        break
    assert reason in process.log, process.log


def test_a_service_trusts_a_broker_that_its_authority_vouches_for(
    tmp_path: Path, certificates: Path, start: Start
) -> None:
    with server(tmp_path, certificates) as broker:
        start(broker, nats_ca=certificates / "ca.crt").wait_ready()


def test_a_broker_that_wants_certificates_gets_the_clients(tmp_path: Path, certificates: Path, start: Start) -> None:
    with server(tmp_path, certificates, verify="true") as broker:
        own = {"nats_cert": certificates / "client.crt", "nats_key": certificates / "client.key"}
        start(broker, nats_ca=certificates / "ca.crt", **own).wait_ready()


def test_a_broker_of_another_authority_is_not_trusted(tmp_path: Path, certificates: Path, start: Start) -> None:
    with server(tmp_path, certificates) as broker:
        says(start(broker, nats_ca=certificates / "strangers" / "ca.crt"), "CERTIFICATE_VERIFY_FAILED")


def test_a_broker_of_another_name_is_trusted_only_if_names_do_not_count(
    tmp_path: Path, certificates: Path, start: Start
) -> None:
    with server(tmp_path, certificates, "other") as broker:
        says(start(broker, nats_ca=certificates / "ca.crt"), "CERTIFICATE_VERIFY_FAILED")
        start(broker, nats_ca=certificates / "ca.crt", nats_verify_hostname=False).wait_ready()


def test_a_password_is_never_sent_to_a_broker_that_does_not_speak_tls(
    tmp_path: Path, certificates: Path, start: Start
) -> None:
    """Whoever stands in between could say that there is no TLS; the client does not ask."""
    with NatsServer(tmp_path / "nats") as broker:
        process = start(broker, nats_ca=certificates / "ca.crt", nats_user="me", nats_password="hush")
        says(process, "SSL")
        assert process.stop() == 0


def test_a_broker_that_speaks_first_is_reached_where_that_is_allowed(
    tmp_path: Path, certificates: Path, start: Start
) -> None:
    with server(tmp_path, certificates, handshake_first="false") as broker:
        start(broker, nats_ca=certificates / "ca.crt", nats_tls_first=False).wait_ready()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"SLUICE_NATS_CA": "/nowhere/ca.crt"}, "SLUICE_NATS_CA: cannot read the file /nowhere/ca.crt"),
        ({"SLUICE_NATS_CERT": "/etc/hostname"}, "SLUICE_NATS_CERT and SLUICE_NATS_KEY go together"),
        ({"SLUICE_NATS_PASSWORD_FILE": "/etc/hostname"}, "SLUICE_NATS_PASSWORD_FILE needs SLUICE_NATS_USER"),
        ({"SLUICE_NATS_CA": "/etc/hostname"}, "SLUICE_NATS_CA, SLUICE_NATS_CERT, SLUICE_NATS_KEY"),
        ({"SLUICE_NATS_ROLE": "emperor"}, "SLUICE_NATS_ROLE: there is no role 'emperor'"),
    ],
)
def test_settings_that_cannot_be_used_are_told_at_the_start(given: dict[str, str], told: str) -> None:
    command = [sys.executable, "-m", "tests.harness.programs.stage"]
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert told in done.stderr + done.stdout


def test_a_clean_stop_says_nothing_of_a_lost_broker(tmp_path: Path, start: Start) -> None:
    with NatsServer(tmp_path / "nats") as broker:
        process = start(broker, nats_url=broker.url)
        process.wait_ready()
        assert process.stop() == 0
    assert "WARNING" not in process.log, process.log


def test_a_new_password_in_its_file_is_used_at_the_next_connection(tmp_path: Path, start: Start) -> None:
    password = tmp_path / "password"
    password.write_text("old\n")
    broker = NatsServer(tmp_path / "nats", "--user", "me", "--pass", "old")
    with broker:
        process = start(broker, nats_url=broker.url, nats_user="me", nats_password_file=password)
        process.wait_ready()
        broker.kill()
        password.write_text("new\n")
        broker._options = ("--user", "me", "--pass", "new")
        broker.start()
        says(process, "connected to the broker again")
        process.wait_ready()
