"""What a broker has acknowledged is on disk, wherever Sluice writes its configuration."""

import re
from pathlib import Path

import pytest

from sluice.local.broker import Broker
from tests.harness.manifests import render
from tests.harness.paths import ROOT


def compose() -> str:
    return (ROOT / "deploy" / "compose" / "nats.conf").read_text()


def kubernetes() -> str:
    (config,) = (thing["data"] for thing in render("base").of("ConfigMap") if "nats.conf" in thing["data"])
    return str(config["nats.conf"])


def test_a_local_broker_syncs(tmp_path: Path) -> None:
    Broker(tmp_path).prepare()
    assert syncs((tmp_path / "nats.conf").read_text())


@pytest.mark.parametrize("config", [compose, kubernetes])
def test_deployed_brokers_sync(config: object) -> None:
    assert callable(config)
    assert syncs(config())


def syncs(config: str) -> bool:
    (jetstream,) = re.findall(r"^jetstream \{.*?\}", config, re.MULTILINE | re.DOTALL)
    return "sync_interval: always" in jetstream
