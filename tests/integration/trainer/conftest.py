"""What tests of training in one process share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more only wait for each other at this size
    yield
    torch.set_num_threads(threads)
