"""A gateway in a thread of the test's own process, which does what the test orders."""

from collections.abc import Iterator

import pytest

from tests.harness.gateway import FakeGateway, serving


@pytest.fixture
def fake_gateway() -> Iterator[FakeGateway]:
    with serving(FakeGateway()) as fake:
        yield fake
