"""Sums of usage and what they cost."""

from collections.abc import AsyncIterator
from datetime import date

import pytest
from pydantic import ValidationError

from services.gateway.settings import GatewaySettings
from services.gateway.usage import service
from services.gateway.usage.models import DatedRow, UsageRow
from services.gateway.usage.prices import Price
from services.gateway.usage.service import Dimension, parse_dimensions, summarize
from shared.contracts.problems import Problem

pytestmark = pytest.mark.anyio

MONDAY, TUESDAY = date(2026, 11, 30), date(2026, 12, 1)
PRICES = {"priced": Price(prompt=2.0, completion=10.0), "free": Price(prompt=0)}


def row(day: date, tenant: str, key: str, model: str, requests: int = 1) -> DatedRow:
    tokens = {"prompt_tokens": 1000 * requests, "completion_tokens": 100 * requests, "cached_tokens": requests}
    return DatedRow(day=day, tenant=tenant, row=UsageRow(key=key, model=model, requests=requests, **tokens))


ROWS = (
    row(TUESDAY, "a", "k1", "priced"),
    row(MONDAY, "b", "k2", "unknown", 2),
    row(MONDAY, "a", "k1", "priced", 3),
    row(MONDAY, "a", "", "free"),
)


async def rows(*given: DatedRow) -> AsyncIterator[DatedRow]:
    for one in given:
        yield one


async def test_rows_come_in_the_order_of_their_dimensions() -> None:
    found, _ = await summarize(rows(*ROWS), (Dimension.DAY, Dimension.TENANT), PRICES)
    assert [(one.day, one.tenant, one.requests, one.key, one.model) for one in found] == [
        (MONDAY, "a", 4, None, None),
        (MONDAY, "b", 2, None, None),
        (TUESDAY, "a", 1, None, None),
    ]
    found, _ = await summarize(rows(*ROWS), (Dimension.KEY,), PRICES)
    assert [(one.key, one.day) for one in found] == [("", None), ("k1", None), ("k2", None)]


async def test_the_cost_is_that_of_the_tokens_with_a_price_and_null_where_none_has_one() -> None:
    found, total = await summarize(rows(*ROWS), (Dimension.MODEL,), PRICES)
    by_model = {one.model: (one.cost, one.unpriced_tokens) for one in found}
    assert by_model["free"] == (0, 0)
    assert by_model["unknown"] == (None, 2200)
    assert by_model["priced"] == (pytest.approx(4 * (1000 * 2 + 100 * 10) / 1e6), 0)
    assert total.cost == by_model["priced"][0]
    assert (total.requests, total.prompt_tokens, total.completion_tokens, total.cached_tokens) == (7, 7000, 700, 7)
    assert total.unpriced_tokens == 2200


async def test_nothing_used_has_no_rows_and_no_cost() -> None:
    found, total = await summarize(rows(), (Dimension.DAY,), PRICES)
    assert (found, total.requests, total.cost) == ((), 0, None)


async def test_a_report_with_too_many_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_GROUPS", 2)
    assert len((await summarize(rows(*ROWS), (Dimension.DAY,), {}))[0]) == 2
    with pytest.raises(Problem, match="fewer dimensions"):
        await summarize(rows(*ROWS), (Dimension.DAY, Dimension.MODEL), {})


def test_dimensions_are_read_in_the_order_in_which_they_are_given() -> None:
    assert parse_dimensions("model, day") == (Dimension.MODEL, Dimension.DAY)


@pytest.mark.parametrize("text", ["", ",", "year", "day,day", "day;model"])
def test_what_is_no_dimension_is_refused(text: str) -> None:
    with pytest.raises(Problem, match="day, tenant, key, model"):
        parse_dimensions(text)


def test_prices_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_PRICES", '{"m": {"prompt": 0.5, "completion": 1.5}, "e": {"prompt": 0.1}}')
    monkeypatch.setenv("SLUICE_CURRENCY", "EUR")
    settings = GatewaySettings()
    assert settings.prices == {"m": Price(prompt=0.5, completion=1.5), "e": Price(prompt=0.1)}
    assert settings.currency == "EUR"


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ('{"m": {"prompt": -1}}', "prices.m.prompt"),
        ('{"m": {"promt": 1}}', "prices.m.promt"),
        ('{"m": {"completion": 1}}', "prices.m.prompt"),
        ('{"m": {"prompt": NaN}}', "prices.m.prompt"),
        ('{"m": 1}', "prices.m"),
    ],
)
def test_a_price_that_is_none_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, prices: str, said: str) -> None:
    monkeypatch.setenv("SLUICE_PRICES", prices)
    with pytest.raises(ValidationError, match=said):
        GatewaySettings()
