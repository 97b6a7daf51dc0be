"""The section Install of docs/kubernetes.md to its end: its own key sends its queries to a platform."""

from base64 import b64decode
from pathlib import Path

import pytest

from tests.cluster.tools import KUBECTL
from tests.harness.install_page import Checkout, install_commands
from tests.harness.platform import Platform

pytestmark = pytest.mark.timeout(600)


def test_the_pages_own_key_can_run_all_of_its_commands(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, KUBECTL)
    before, after = install_commands(), []
    while "sluice ask" not in before[-1]:
        after.append(before.pop())
    last = before.pop()
    for block in before:
        checkout.run(block)
    (secret,) = (thing for thing in checkout.objects if thing["metadata"]["name"] == "sluice-gateway-admin")
    with Platform(tmp_path / "platform", admin_key=b64decode(secret["data"]["admin-key"]).decode()) as platform:
        said = checkout.run(last, {"SLUICE_URL": platform.url})
    assert "1 indexed" in said
    assert "docs/ingestion.md" in said
    assert "embed" in said.partition("confidence")[2], "the last command shows the stages"
