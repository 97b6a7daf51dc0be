"""Workers pull whatever is on the broker, so each test has a broker of its own."""

import pytest

from tests.harness.broker import NatsServer


@pytest.fixture
def broker(own_broker: NatsServer) -> NatsServer:
    return own_broker
