"""A gateway in a thread of the test's own process, which does what the test orders."""

from collections.abc import Iterator

import pytest

from tests.harness.fake_gateway import FakeGateway, serve_fake_gateway


@pytest.fixture
def fake_gateway() -> Iterator[FakeGateway]:
    with serve_fake_gateway(FakeGateway()) as fake:
        yield fake
