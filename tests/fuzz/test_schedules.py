"""Schedules: what is taken for a cron expression, an interval or a zone is one, and is one for the broker too."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from hypothesis import example, given
from hypothesis import strategies as st
from nats.js.api import StreamConfig
from pydantic import ValidationError

from shared.contracts.schedules import Cron, TimingError, interval, time_zone
from shared.contracts.schedules.schedule import Timing
from tests.fuzz.hypothesis_runner import example_began, fuzzed, outcome, saw
from tests.fuzz.values import odd_texts
from tests.harness.broker import NatsServer
from tests.harness.stage_harness import StageHarness, open_stage_harness

numbers = st.integers(0, 70).map(str) | st.sampled_from(
    [
        "00",
        "07",
        "-1",
        "1.5",
        "99999999999",
        "9" * 5000,
        "\u0663",
        "\uff11",
        "",
        "sun",
        "Mon",
        "dec",
        "JAN",
        "L",
        "W",
        "#",
    ]
)
parts = (
    st.sampled_from(
        ["*", "?", "*/2", "*/15", "*/0", "0", "1", "mon-fri", "sat,sun", "1-5/2", "*/99", "5/10", "*-3", "jan"]
    )
    | numbers
    | st.tuples(numbers, numbers).map("-".join)
    | st.tuples(numbers, numbers).map("/".join)
    | st.tuples(numbers, numbers, numbers).map(lambda three: f"{three[0]}-{three[1]}/{three[2]}")
    | st.tuples(numbers, numbers).map(",".join)
)
proper = st.tuples(
    *(
        st.sampled_from(["*", "*/2", "0", "1", "3,5", "1-4", "*/7", "5/10", "*/59"]) if number < 3 else parts
        for number in range(6)
    )
).map(" ".join)
right = st.tuples(
    *(
        st.sampled_from(
            ["*", "*", "*/3", f"{low}", f"{low}-{high}", f"{high}", f"{low},{high}", f"{low}-{high}/2", *names]
        )
        for low, high, names in (
            *((0, 59, ()), (0, 59, ()), (0, 23, ()), (1, 31, ("?",)), (1, 12, ("jan", "feb-NOV"))),
            (0, 6, ("?", "sun", "Mon-fri")),
        )
    )
).map(" ".join)
crons = (
    st.lists(parts, min_size=4, max_size=7).map(" ".join)
    | proper
    | right
    | right
    | st.sampled_from(
        ["@daily", "@Hourly", " @weekly ", "@reboot", "@every 1s", "@", "* * 30 2 *", "0 0 31 2,4 *", "0 0 29 2 *"]
    )
    | st.text("*/,-? 0123456789amjnsu@\t\n", max_size=24)
    | odd_texts
)
zones = st.sampled_from([None, "UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"])


@fuzzed(100)
@given(text=crons, zone=zones, moment=st.integers(0, 4_000_000_000))
@example(text="*/" + "9" * 5000 + " * * * *", zone=None, moment=0)
@example(text="\u0663 * * * *", zone=None, moment=0)
def test_any_text_is_a_cron_expression_that_ticks_as_it_says_or_a_timing_error(
    text: str, zone: str | None, moment: int
) -> None:
    example_began()
    cron = outcome(lambda: Cron.parse(text), TimingError)
    if isinstance(cron, TimingError):
        saw("refused")
        assert len(str(cron)) < 1000
        return
    saw("taken")
    assert cron.text.isascii()
    assert Cron.parse(cron.text) == cron
    place = time_zone(zone)
    start = datetime.fromtimestamp(moment, UTC)
    tick = cron.after(start, place)
    local = tick.astimezone(place)
    assert tick > start
    times = (local.second, local.minute, local.hour, local.day, local.month, local.isoweekday() % 7)
    holds = [values is None or number in values for number, values in zip(times, cron.values, strict=True)]
    second, minute, hour, day, month, weekday = holds
    assert (second, minute, hour, month) == (True,) * 4
    assert (day and weekday) or ((day or weekday) and cron.values[3] is not None and cron.values[5] is not None)


@fuzzed(60)
@given(
    text=st.from_regex(r"([0-9]{1,4}h)?([0-9]{1,4}m)?([0-9]{1,6}s)?[hmsd0-9]?", fullmatch=True)
    | odd_texts
    | st.text("0123456789hms \u0663", max_size=9)
)
@example(text="9" * 5000 + "s")
@example(text="1h" + "\u0663" * 5000 + "s")
def test_any_text_is_an_interval_within_a_year_or_a_timing_error(text: str) -> None:
    example_began()
    seconds = outcome(lambda: interval(text), TimingError)
    saw("refused" if isinstance(seconds, TimingError) else "taken")
    if isinstance(seconds, float):
        assert 1 <= seconds <= 366 * 86400
        assert int(seconds) == seconds


@fuzzed(40)
@given(
    name=odd_texts
    | st.sampled_from(
        [
            "Europe/Berlin",
            "UTC",
            "Asia/Tokyo",
            "Europe",
            "europe/berlin",
            "UTC/",
            "posixrules",
            "zone.tab",
            "a" * 300,
            "..",
            "x/../UTC",
        ]
    )
)
def test_any_text_is_a_time_zone_or_a_timing_error(name: str) -> None:
    example_began()
    zone = outcome(lambda: time_zone(name), TimingError)
    saw("refused" if isinstance(zone, TimingError) else "taken")
    if not isinstance(zone, TimingError):
        datetime.now(zone)


@pytest.fixture(scope="module")
def harness(portal: BlockingPortal, broker: NatsServer) -> Iterator[StageHarness]:
    """A real broker with a stream that keeps schedules."""
    with portal.wrap_async_context_manager(open_stage_harness(broker.url)) as harness:
        config = StreamConfig(name="FUZZ", subjects=["fuzz.>"], allow_msg_schedules=True)
        portal.call(harness.jetstream.add_stream, config)
        yield harness


timings = st.builds(
    lambda cron, every, zone: {"cron": cron, "every": every, "zone": zone},
    st.none() | right | crons,
    st.none() | st.none() | st.sampled_from(["1s", "90s", "15m", "1h30m", "8784h", "\u0663s"]) | odd_texts,
    zones | odd_texts,
)


@fuzzed(48)
@given(asked=timings)
@example(asked={"cron": "\u0663 * * * *"})
def test_the_broker_takes_what_is_taken_for_a_schedule(
    portal: BlockingPortal, harness: StageHarness, asked: Any
) -> None:
    example_began()

    def made() -> dict[str, str]:
        timing = Timing(**asked)
        timing.check()
        assert timing.after(time.time())
        return timing.headers

    headers = outcome(made, TimingError, ValidationError)
    if not isinstance(headers, dict):
        saw("refused")
        return
    saw("taken")
    target = {"Nats-Schedule-Target": "fuzz.due"}
    portal.call(lambda: harness.jetstream.publish("fuzz.timer", b"", headers=headers | target))
