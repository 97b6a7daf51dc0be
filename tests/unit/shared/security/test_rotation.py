"""Changes of passwords and of the authority: in each step, what others still have from the step before is enough."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
from cryptography import x509

from shared.security.broker_config import HASH, main
from shared.security.passwords import passwords_in

USER = "retriever"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run(tmp_path)
    return tmp_path


def run(folder: Path, *step: str) -> None:
    main(["--out", str(folder), "--tls", "nats,127.0.0.1", "--kubernetes", *step])


def shown(folder: Path, user: str = USER) -> list[str]:
    """What a service shows, one after the other."""
    return passwords_in((folder / f"{user}.password").read_text())


def accepts(accounts: str, password: str) -> bool:
    return any(bcrypt.checkpw(password.encode(), known.encode()) for known in HASH.findall(accounts))


def steps(folder: Path, name: str) -> Iterator[str]:
    for step in ("--rotate", "--switch", "--retire"):
        run(folder, step, name)
        yield step


def test_services_and_nodes_of_neighbouring_steps_have_a_password_in_common(folder: Path) -> None:
    first = shown(folder)
    before = (folder / "accounts.conf").read_text(), first
    for step in steps(folder, USER):
        now = (folder / "accounts.conf").read_text(), shown(folder)
        for accounts in (before[0], now[0]):
            for passwords in (before[1], now[1]):
                assert any(accepts(accounts, password) for password in passwords), step
        before = now
    assert shown(folder) != first
    assert not accepts(before[0], first[0])


def test_the_password_in_force_is_the_first_of_its_file(folder: Path) -> None:
    for step in steps(folder, USER):
        assert accepts((folder / "accounts.conf").read_text(), shown(folder)[0]), step


def test_a_switch_is_undone_by_another(folder: Path) -> None:
    before = shown(folder)
    run(folder, "--rotate", USER)
    run(folder, "--switch", USER)
    run(folder, "--switch", USER)
    assert shown(folder)[0] == before[0]
    assert accepts((folder / "accounts.conf").read_text(), before[0])


def test_the_password_of_people_is_replaced_at_once(folder: Path) -> None:
    before = shown(folder, "admin")
    run(folder, "--rotate", "admin")
    (now,) = shown(folder, "admin")
    assert now not in before
    assert accepts((folder / "accounts.conf").read_text(), now)


def test_nobody_elses_password_changes(folder: Path) -> None:
    before = {path.name: path.read_text() for path in folder.glob("*.password")}
    list(steps(folder, USER))
    after = {path.name: path.read_text() for path in folder.glob("*.password")}
    assert {name for name in before if before[name] != after[name]} == {f"{USER}.password"}


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (("--switch", USER), "rotate it first"),
        (("--switch", "authority"), "rotate it first"),
        (("--switch", "certificate"), "takes one step"),
        (("--rotate", "emperor"), "there is no user 'emperor'"),
    ],
)
def test_a_step_that_cannot_be_taken_is_refused_and_changes_nothing(
    folder: Path, step: tuple[str, str], why: str
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(SystemExit, match=why):
        run(folder, *step)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def trusted(bundle: bytes, certificate: bytes) -> bool:
    """Whether one of the authorities of a bundle has signed the certificate."""
    leaf = x509.load_pem_x509_certificate(certificate)
    for authority in x509.load_pem_x509_certificates(bundle):
        try:
            leaf.verify_directly_issued_by(authority)
        except Exception:  # noqa: BLE001  (whatever is wrong with it)
            continue
        return True
    return False


def test_in_each_step_every_bundle_of_the_last_two_trusts_every_certificate_of_them(folder: Path) -> None:
    def files() -> tuple[bytes, bytes]:
        return (folder / "ca.crt").read_bytes(), (folder / "tls.crt").read_bytes()

    first = before = files()
    for step in steps(folder, "authority"):
        now = files()
        assert all(trusted(bundle, leaf) for bundle in (before[0], now[0]) for leaf in (before[1], now[1])), step
        ssl.create_default_context(cadata=now[0].decode())
        before = now
    assert not trusted(before[0], first[1])
    assert not trusted(first[0], before[1])


def test_the_certificate_is_renewed_by_the_same_authority_in_one_step(folder: Path) -> None:
    authority, before = (folder / "ca.crt").read_bytes(), (folder / "tls.crt").read_bytes()
    run(folder, "--rotate", "certificate")
    now = (folder / "tls.crt").read_bytes()
    assert now != before
    assert trusted(authority, now)
    assert (folder / "ca.crt").read_bytes() == authority
