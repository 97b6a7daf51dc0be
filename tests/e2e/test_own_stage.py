"""A stage of a user's own, from the examples, beside the platform: a small service and one line of configuration."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sluice import Client
from tests.e2e.conftest import EXAMPLE
from tests.harness.platform import Platform, eventually


@pytest.fixture
def redact(platform: Platform) -> Iterator[None]:
    """The example's process, as its docstring says to run it."""
    environment = {**os.environ, "SLUICE_NATS_URL": str(platform.state.nats_url)}
    process = subprocess.Popen([sys.executable, str(EXAMPLE / "stage.py")], env=environment, stderr=subprocess.DEVNULL)
    yield
    process.terminate()
    assert process.wait(60) == 0


@pytest.mark.usefixtures("redact")
def test_the_example_stage_takes_phone_numbers_out_of_what_the_generator_sees(client: Client) -> None:
    client.create_collection("phones")
    client.wait(client.add_texts("phones", {"desk.txt": "The harbour desk answers on +46 8 123 456 78 all night."}).id)

    plain = client.query("Which number does the harbour desk answer on?", collection="phones")
    assert "+46 8 123 456 78" in plain.answer

    redacted = client.query("Which number does the harbour desk answer on?", collection="phones", pipeline="redacted")
    assert "harbour desk" in redacted.answer
    assert "123 456" not in redacted.answer + redacted.sources[0].text
    assert [stage.stage for stage in redacted.timings.stages] == ["embed", "retrieve", "redact", "generate"]
    eventually(lambda: any(s.service == "redact" and s.ready for s in client.status().services), "redact in the status")


def test_the_example_is_under_forty_lines() -> None:
    assert len((EXAMPLE / "stage.py").read_text().splitlines()) < 40
