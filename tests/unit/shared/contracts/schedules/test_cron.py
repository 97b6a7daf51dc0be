"""Cron expressions: when they tick, and what is wrong with those that do not."""

from datetime import UTC, datetime

import pytest

from shared.contracts.schedules import Cron, TimingError, interval, time_zone


def after(text: str, moment: str, zone: str | None = None) -> str:
    tick = Cron.parse(text).after(datetime.fromisoformat(moment).replace(tzinfo=UTC), time_zone(zone))
    return tick.strftime("%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("text", "moment", "tick"),
    [
        ("* * * * * *", "2026-01-01 00:00:00", "2026-01-01 00:00:01"),
        ("*/15 * * * * *", "2026-01-01 00:00:31", "2026-01-01 00:00:45"),
        ("0 3 * * *", "2026-01-01 02:59:59", "2026-01-01 03:00:00"),
        ("0 3 * * *", "2026-01-01 03:00:00", "2026-01-02 03:00:00"),
        ("30 0 3 * * *", "2026-01-01 03:00:00", "2026-01-01 03:00:30"),
        ("5,10-12 * * * *", "2026-01-01 00:10:30", "2026-01-01 00:11:00"),
        ("0 8-18/4 * * *", "2026-01-01 12:00:00", "2026-01-01 16:00:00"),
        ("3/20 * * * *", "2026-01-01 00:24:00", "2026-01-01 00:43:00"),
        ("0 0 * * MON-FRI", "2026-01-02 12:00:00", "2026-01-05 00:00:00"),
        ("0 0 31 * *", "2026-04-01 00:00:00", "2026-05-31 00:00:00"),
        ("0 0 29 feb ?", "2026-03-01 00:00:00", "2028-02-29 00:00:00"),
        ("0 0 13 * 5", "2026-01-03 00:00:00", "2026-01-09 00:00:00"),
        ("@weekly", "2026-01-01 00:00:00", "2026-01-04 00:00:00"),
        ("@hourly", "2026-01-01 00:00:00", "2026-01-01 01:00:00"),
    ],
)
def test_the_next_tick(text: str, moment: str, tick: str) -> None:
    assert after(text, moment) == tick


@pytest.mark.parametrize(
    ("moment", "zone", "tick"),
    [
        ("2026-01-10 12:00:00", None, "2026-01-11 03:00:00"),
        ("2026-01-10 12:00:00", "Europe/Berlin", "2026-01-11 02:00:00"),
        ("2026-07-10 12:00:00", "Europe/Berlin", "2026-07-11 01:00:00"),
        ("2026-01-10 12:00:00", "America/New_York", "2026-01-11 08:00:00"),
        ("2026-01-10 12:00:00", "Asia/Kolkata", "2026-01-10 21:30:00"),
    ],
)
def test_a_time_is_that_of_its_zone_in_winter_and_in_summer(moment: str, zone: str | None, tick: str) -> None:
    assert after("0 3 * * *", moment, zone) == tick


def test_a_time_that_the_clocks_skip_does_not_tick_and_one_that_comes_twice_ticks_twice() -> None:
    assert after("30 2 * * *", "2026-03-28 12:00:00", "Europe/Berlin") == "2026-03-30 00:30:00"
    first = after("30 2 * * *", "2026-10-24 12:00:00", "Europe/Berlin")
    assert first == "2026-10-25 00:30:00"
    second = after("30 2 * * *", first, "Europe/Berlin")
    assert second == "2026-10-25 01:30:00"
    assert after("30 2 * * *", second, "Europe/Berlin") == "2026-10-26 01:30:00"


def test_a_midnight_that_the_clocks_skip_does_not_tick() -> None:
    # On 29 March 2026 the day in Beirut begins at one o'clock.
    assert after("0 0 * * *", "2026-03-27 22:00:00", "Asia/Beirut") == "2026-03-29 21:00:00"


@pytest.mark.parametrize(
    ("text", "tick"),
    [
        ("0 0 */2 * 1", "2026-01-03 00:00:00"),
        ("0 0 13 * */2", "2026-01-03 00:00:00"),
        ("0 0 1-31 * 1", "2026-01-03 00:00:00"),
        ("0 0 * * 1", "2026-01-05 00:00:00"),
        ("0 0 */1 * 1", "2026-01-05 00:00:00"),
        ("0 0 ? * 1", "2026-01-05 00:00:00"),
        ("0 0 13,* * 1", "2026-01-05 00:00:00"),
    ],
)
def test_one_of_two_days_is_enough_unless_one_of_them_is_a_star(text: str, tick: str) -> None:
    assert after(text, "2026-01-02 12:00:00") == tick


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has five fields"),
        ("* * * *", "has 4"),
        ("* * * * * * *", "has 7"),
        ("60 * * * *", "'60' is no minute: write 0 to 59"),
        ("0 24 * * *", "'24' is no hour"),
        ("0 0 0 * *", "'0' is no day of month: write 1 to 31"),
        ("0 0 * 13 *", "'13' is no month: write 1 to 12 or jan to dec"),
        ("0 0 * * 7", "'7' is no day of week: write 0 to 6 or sun to sat"),
        ("0 0 * * fri-mon", "'fri-mon' is no day of week"),
        ("*/0 * * * *", "'*/0' is no minute"),
        ("a * * * *", "'a' is no minute"),
        ("1- * * * *", "'' is no minute"),
        ("@sometimes", "has five fields"),
        ("0 0 30 2 *", "never comes"),
        ("² * * * *", "is no minute"),
    ],
)
def test_what_is_wrong_is_said(text: str, complaint: str) -> None:
    with pytest.raises(TimingError) as caught:
        Cron.parse(text)
    assert complaint in str(caught.value)


def test_five_fields_become_the_six_that_the_broker_reads() -> None:
    assert Cron.parse(" 0  3 * * mon ").text == "0 0 3 * * mon"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("1h30m", 5400), ("2h5s", 7205)])
def test_an_interval(text: str, seconds: float) -> None:
    assert interval(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "5", "1d", "-5s", "0.5s", "1m1h", "99999h"])
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(TimingError):
        interval(text)


@pytest.mark.parametrize("name", ["Mars/Base", "", "../../etc/passwd", "/etc/localtime"])
def test_a_zone_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(TimingError):
        time_zone(name)
