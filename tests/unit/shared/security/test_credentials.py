"""What a connection is given at each try, from files that change while a service runs."""

from pathlib import Path

import pytest

from shared.nats.settings import BrokerSettings
from shared.security.certificates import Authority
from shared.security.credentials import Credentials, Trust


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    Authority(tmp_path).issue("tls", ["nats"])
    return tmp_path / "ca.crt"


def trust(bundle: Path) -> Trust:
    return Trust(bundle, None, None, verify_hostname=True)


def test_a_new_authority_is_trusted_from_the_next_connection_on(bundle: Path) -> None:
    trusts = trust(bundle)
    assert trusts() is trusts(), "nothing has changed, so nothing is loaded"
    assert len(trusts().get_ca_certs()) == 1
    Authority(bundle.parent).rotate()
    assert len(trusts().get_ca_certs()) == 2


def test_a_file_that_cannot_be_used_leaves_the_trust_as_it_was(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    trusts = trust(bundle)
    before, text = trusts(), bundle.read_text()
    bundle.write_text("-----BEGIN CERTIFICATE-----\nhalf a")
    assert trusts() is before
    bundle.unlink()
    assert trusts() is before
    bundle.write_text(text)
    assert trusts() is before
    assert "cannot be used" in caplog.text


def test_passwords_are_read_again_each_time(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("one\n")
    credentials = Credentials.of(BrokerSettings(nats_user="embedder", nats_password_file=path))
    assert credentials.passwords is not None
    assert list(credentials.passwords()) == ["one"]
    path.write_text("one\n\ntwo\n")
    assert list(credentials.passwords()) == ["one", "two"]


def test_a_password_of_the_settings_may_have_blanks() -> None:
    credentials = Credentials.of(BrokerSettings(nats_user="me", nats_password="a b\nc"))
    assert credentials.passwords is not None
    assert list(credentials.passwords()) == ["a b\nc"]


def test_without_a_user_no_password_is_shown() -> None:
    assert Credentials.of(BrokerSettings()).passwords is None
