"""The reports of searches in Chromium: whole on a phone, legible, and without anything from elsewhere."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser

from tests.harness.browser import DESKTOP, PHONE, Visit, open_browser
from tests.harness.search_reports import sweep_page, tuning_page

CUT = """() => [...document.querySelectorAll("svg")].flatMap((chart) => [...chart.querySelectorAll("text")]
  .filter((text) => { const box = text.getBBox(), room = chart.viewBox.baseVal;
    return box.x < 0 || box.y < 0 || box.x + box.width > room.width || box.y + box.height > room.height; })
  .map((text) => text.textContent))"""
"""What is written in a chart and reaches over its edge."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.mark.parametrize(("make", "trials"), [(tuning_page, 40), (sweep_page, 24)], ids=["tuning", "sweep"])
@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, False), (PHONE, True)], ids=["desktop", "phone, dark"])
def test_the_report_of_a_search_fits_and_is_accessible(
    browser: Browser, make: Callable[[int], str], trials: int, size: tuple[int, int], dark: bool
) -> None:
    visit = Visit.begin(browser, "http://127.0.0.1", size=size, dark=dark)
    asked: list[str] = []
    visit.context.on("request", lambda request: asked.append(request.url))
    page = visit.context.new_page()
    page.set_content(make(trials))
    visit.check_width(page)
    visit.check_accessibility(page)
    assert page.evaluate(CUT) == []
    assert asked == []
    visit.check()
    visit.context.close()
