"""The pure parts of the embedder: the cut into batches, whose turn it is, what a machine may use and can do."""

import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from services.embedder.model.batching import plan_batches
from services.embedder.model.hardware import native_bfloat16, usable_cpus
from services.embedder.model.priority_lock import PriorityLock

lengths = st.lists(st.integers(0, 600), max_size=200)


@given(lengths, st.integers(1, 4096), st.integers(1, 64), st.integers(0, 512))
def test_every_row_is_in_exactly_one_batch_and_batches_keep_their_limits(
    lengths: list[int], budget: int, max_rows: int, padding: int
) -> None:
    plan = plan_batches(lengths, token_budget=budget, max_rows=max_rows, padding_limit=padding)

    assert sorted(row for batch in plan for row in batch) == list(range(len(lengths)))
    for batch in plan:
        longest = lengths[batch[0]]
        assert longest == max(lengths[row] for row in batch)
        assert len(batch) <= max_rows
        assert len(batch) == 1 or len(batch) * longest <= budget
        assert sum(longest - lengths[row] for row in batch) <= padding


def test_rows_of_one_length_fill_batches_to_the_budget() -> None:
    plan = plan_batches([100] * 10, token_budget=400, max_rows=64, padding_limit=0)

    assert [len(batch) for batch in plan] == [4, 4, 2]


def test_one_long_row_does_not_pad_many_short_ones() -> None:
    plan = plan_batches([10] * 8 + [500], token_budget=8192, max_rows=64, padding_limit=256)

    assert plan == [[8], list(range(8))]


def test_an_urgent_caller_goes_before_bulk_callers_that_came_earlier() -> None:
    turns = PriorityLock()
    order: list[str] = []
    entered = threading.Barrier(2)

    def call(name: str, *, urgent: bool) -> None:
        entered.wait()
        with turns.take(urgent=urgent):
            order.append(name)

    with turns.take(urgent=False):
        threads = []
        for name, urgent in (("bulk", False), ("query", True)):
            thread = threading.Thread(target=call, args=(name,), kwargs={"urgent": urgent})
            thread.start()
            entered.wait()
            threads.append(thread)
        while turns.urgent_waiting == 0:
            threading.Event().wait(0.001)
    for thread in threads:
        thread.join()

    assert order[0] == "query"


def test_a_container_quota_bounds_the_cpus(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text("100000 100000\n")
    assert usable_cpus(quota) == 1
    quota.write_text("50000 100000\n")
    assert usable_cpus(quota) == 1
    quota.write_text("max 100000\n")
    assert usable_cpus(quota) == usable_cpus(tmp_path / "absent")


def test_a_cpu_that_multiplies_bfloat16_is_known_by_its_flags(tmp_path: Path) -> None:
    flags = tmp_path / "cpuinfo"
    flags.write_text("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 sse\n")
    assert native_bfloat16(flags)
    flags.write_text("processor\t: 0\nflags\t\t: fpu avx512f sse\n")
    assert not native_bfloat16(flags)
    assert not native_bfloat16(tmp_path / "absent")
