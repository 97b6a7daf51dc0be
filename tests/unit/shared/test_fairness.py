"""Tenants share slots by the time for which they hold them, and a newcomer need not wait for the end of what runs."""

import asyncio
from typing import Any, NoReturn, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.fairness import FairShare, FairSlots, TooManyWaitError, parse_weights

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def served(share: FairShare, clock: Clock, work: dict[str, float], seconds: float) -> dict[str, float]:
    """The slot-seconds of tenants that always have more work, each piece of which takes so long."""
    running: list[tuple[float, str, float]] = []
    total = dict.fromkeys(work, 0.0)
    for tenant in work:
        share.join(tenant)
    while clock.now < seconds:
        while candidates := [tenant for tenant in work if share.free(tenant)]:
            tenant = min(candidates, key=share.order())
            running.append((clock.now + work[tenant], tenant, share.take(tenant)))
        running.sort()
        clock.now, tenant, taken = running.pop(0)
        share.give(tenant, taken)
        total[tenant] += work[tenant]
    for _, tenant, taken in running:
        share.give(tenant, taken)
    for tenant in work:
        share.leave(tenant)
    return total


def test_one_tenant_alone_may_hold_every_slot_but_none_that_is_spare() -> None:
    share = FairShare(3, spare=2)
    while share.free("a"):
        share.take("a")
    assert share.taken == 3


def test_a_tenant_without_a_slot_finds_one_although_another_holds_all() -> None:
    share = FairShare(2, spare=2)
    _ = [share.take("a") for _ in range(2)]
    assert share.free("b")
    assert not share.free("a")
    share.take("b")
    assert share.free("c")
    assert not share.free("b")
    share.take("c")
    assert not share.free("d")


def test_reserved_slots_are_kept_from_newcomers_too() -> None:
    share = FairShare(4, spare=1)
    _ = [share.take("a") for _ in range(3)]
    assert not share.free("a", reserved=1)
    assert share.free("b", reserved=1)
    share.take("b")
    assert not share.free("c", reserved=1)
    assert share.free("c")


def test_long_work_and_short_work_get_the_same_time() -> None:
    clock = Clock()
    got = served(FairShare(1, clock=clock), clock, {"slow": 28.0, "quick": 0.5}, 5000)
    assert got["slow"] == pytest.approx(got["quick"], rel=0.02)


def test_weights_divide_the_time() -> None:
    clock = Clock()
    share = FairShare(4, weights={"a": 3.0, "c": 0.5}, clock=clock)
    got = served(share, clock, {"a": 1.0, "b": 1.0, "c": 1.0}, 9000)
    assert got["a"] / got["b"] == pytest.approx(3, rel=0.02)
    assert got["c"] / got["b"] == pytest.approx(0.5, rel=0.02)


@given(
    work=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 20), min_size=2),
    size=st.integers(1, 6),
    spare=st.integers(0, 4),
)
def test_no_tenant_that_always_has_work_is_far_behind_another(work: dict[str, int], size: int, spare: int) -> None:
    clock = Clock()
    got = served(FairShare(size, spare=spare, clock=clock), clock, dict(work), 300)
    # What is taken cannot be taken back: a tenant may be ahead by all slots' longest work, and spare slots give each
    # tenant one at least, however long its work is.
    ahead = (size + spare) * max(work.values())
    least = min(got.values())
    assert all(time - least <= ahead + spare * 300 for time in got.values())
    assert least > 0


def test_a_tenant_that_was_away_has_saved_nothing() -> None:
    clock = Clock()
    share = FairShare(1, clock=clock)
    served(share, clock, {"a": 1.0}, 1000)
    clock.now += 50
    got = served(share, clock, {"a": 1.0, "b": 1.0}, 1150)
    assert abs(got["a"] - got["b"]) <= 2


def test_accounts_of_tenants_that_have_left_are_forgotten() -> None:
    clock = Clock()
    share = FairShare(2, clock=clock)
    for number in range(5000):
        taken = share.take(f"tenant-{number}")
        clock.now += 1.0
        share.give(f"tenant-{number}", taken)
    assert len(share._accounts) <= 2000


async def test_waiters_get_slots_in_fair_order() -> None:
    clock = Clock()
    slots = FairSlots(FairShare(1, clock=clock))
    order: list[str] = []

    async def work(tenant: str) -> None:
        async with slots.slot(tenant):
            order.append(tenant)
            clock.now += 1.0

    first = await slots.acquire("a")
    tasks = [asyncio.create_task(work(tenant)) for tenant in "aaabbc"]
    await asyncio.sleep(0)
    clock.now += 1.0
    slots.release("a", first)
    await asyncio.gather(*tasks)
    # After the first of "a" each of the others has its turn, and again, before "a" is next.
    assert order == ["b", "c", "a", "b", "a", "a"] or order == ["c", "b", "a", "b", "a", "a"]
    assert slots.taken == slots.waiting == 0


async def test_a_waiter_that_is_cancelled_keeps_no_place() -> None:
    slots = FairSlots(FairShare(1))
    held = await slots.acquire("a")
    waiter = asyncio.create_task(slots.acquire("b"))
    granted = asyncio.create_task(slots.acquire("c"))
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    slots.release("a", held)
    granted.cancel()  # after its turn has come, before it has noticed
    await asyncio.gather(granted, return_exceptions=True)
    assert slots.taken == slots.waiting == 0


async def test_no_more_than_the_bound_wait_of_one_tenant() -> None:
    slots = FairSlots(FairShare(1), most_waiting=1)
    await slots.acquire("a")
    waiter = asyncio.create_task(slots.acquire("a"))
    other = asyncio.create_task(slots.acquire("b"))
    await asyncio.sleep(0)
    with pytest.raises(TooManyWaitError):
        await slots.acquire("a")
    assert slots.waiting == 2
    for task in (waiter, other):
        task.cancel()
    await asyncio.gather(waiter, other, return_exceptions=True)


def test_weights_are_read_from_text() -> None:
    assert parse_weights(" acme=3, other=0.5 ,") == {"acme": 3.0, "other": 0.5}
    for text in ("acme", "acme=", "=3", "acme=0", "acme=-1", "acme=nan", "acme=1e9"):
        with pytest.raises(ValueError, match="weight"):
            parse_weights(text)


class Unlisted(dict[str, object]):
    """Tenants that may be looked up and not gone through."""

    def values(self) -> NoReturn:
        raise AssertionError

    items = values


def test_a_tenant_comes_takes_and_gives_without_a_look_at_all_that_wait() -> None:
    clock = Clock()
    share = FairShare(2, clock=clock)
    share._waiting = cast("Any", Unlisted())
    for number in range(500):
        clock.now += 1
        share.join(f"tenant-{number}")
    taken = share.take("tenant-0")
    clock.now += 5
    share.give("tenant-0", taken)
    share.join("newcomer")
    assert min(("tenant-0", "newcomer"), key=share.order()) == "newcomer"


@given(st.lists(st.tuples(st.sampled_from(("join", "leave", "take", "give", "wait")), st.integers(0, 5)), max_size=200))
def test_a_newcomer_begins_where_the_least_of_the_others_is(steps: list[tuple[str, int]]) -> None:
    clock = Clock()
    share = FairShare(100, clock=clock, weights={"1": 3.0})
    held: dict[str, list[float]] = {}
    floor = 0.0
    for step, number in steps:
        tenant = str(number)
        match step:
            case "join":
                share.join(tenant)
            case "leave":
                share.leave(tenant)
            case "take":
                held.setdefault(tenant, []).append(share.take(tenant))
            case "give" if held.get(tenant):
                share.give(tenant, held[tenant].pop())
            case "wait":
                clock.now += number
        active = (share._waiting | share._holders).values()
        floor = max(floor, min((account.served(clock.now) for account in active), default=floor))
        assert share._least(clock.now) == pytest.approx(floor)


@given(
    st.lists(
        st.tuples(st.sampled_from(("join", "leave", "take", "give", "wait")), st.integers(0, 7), st.booleans()),
        max_size=80,
    ),
    st.integers(0, 2),
)
def test_the_next_one_is_the_first_in_the_order_of_those_that_may_take_a_slot(
    steps: list[tuple[str, int, bool]], reserved: int
) -> None:
    clock = Clock()
    share = FairShare(4, spare=2, clock=clock, weights={"1": 3.0})
    waiting: set[str] = set()
    held: list[tuple[str, float]] = []
    for what, number, urgent in steps:
        tenant = str(number)
        match what:
            case "join":
                share.join(tenant)
                waiting.add(tenant)
            case "leave":
                share.leave(tenant)
                waiting.discard(tenant)
            case "take" if share.free(tenant):
                held.append((tenant, share.take(tenant)))
            case "give" if held:
                share.give(*held.pop(number % len(held)))
            case "wait":
                clock.now += 0.5 + number
        among = {"1", "3", "5"} if urgent else None
        may = [one for one in waiting if share.free(one, reserved=reserved) and (among is None or one in among)]
        following = share.next(reserved=reserved, among=among)
        if not may:
            assert following is None
        else:
            assert following in may
            assert share.order()(following) == min(map(share.order(), may))


def test_of_a_few_among_many_the_first_is_found_too() -> None:
    clock = Clock()
    share = FairShare(1, clock=clock)
    for number in range(100):
        share.join(f"t{number:02}")
    assert share.next(among={"t42", "t07"}) == "t07"
    share.give("t07", share.take("t07"))
    assert share.next(among={"t42", "t07"}) == "t42"
    assert share.next() == "t00"


def test_of_those_that_have_had_nothing_whoever_came_first_is_next() -> None:
    share = FairShare(1)
    for tenant in ("zoe", "adam", "mia"):
        share.join(tenant)
    assert share.next() == "zoe"
