"""The gateway of these tests has two collections."""

import pytest


@pytest.fixture(scope="module")
def gateway_collections() -> list[dict[str, object]]:
    return [{"name": "default"}, {"name": "docs"}]
