"""Chromium as a person uses the console with it, driven by Playwright."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

__all__ = ["DESKTOP", "PHONE", "Visit", "chromium", "open_browser", "visiting"]

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")

FLAGS: Final = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    # Nothing but the platform under test is asked for anything.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

DESKTOP: Final = (1440, 900)
PHONE: Final = (390, 844)
"""CSS pixels of a window, width and height."""

PATIENCE_MS: Final = 90_000

LISTEN: Final = """
window.__violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.__violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
"""


def chromium() -> Path:
    """Where Chromium is. Skips the test where there is none, and fails it in CI, which installs it."""
    for name in NAMES:
        if found := shutil.which(name):
            return Path(found)
    reason = "There is no Chromium: `apt-get install chromium`"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """While it is open the thread has a running event loop, so no other test of the process may run in it."""
    # A root user has no sandbox, and in a container nobody has.
    sandbox = () if os.geteuid() else ("--no-sandbox",)
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS, *sandbox])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """One person's window: what went wrong in it is kept in `faults`."""

    context: BrowserContext
    url: str
    faults: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    """Parts of faults that the test causes on purpose."""

    @classmethod
    def begin(cls, browser: Browser, url: str, *, size: tuple[int, int] = DESKTOP, dark: bool = False) -> "Visit":
        context = browser.new_context(
            base_url=url,
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            locale="en-GB",
            timezone_id="UTC",
            accept_downloads=True,
        )
        context.set_default_timeout(PATIENCE_MS)
        context.set_default_navigation_timeout(PATIENCE_MS)
        context.add_init_script(LISTEN)
        visit = cls(context, url)
        context.on("console", visit._hear)
        context.on("weberror", lambda error: visit.faults.append(f"exception: {error.error}"))
        return visit

    def sign_in(self, key: str) -> None:
        """Begin a session without the form."""
        response = self.context.request.post(
            "/v1/session", headers={"Authorization": f"Bearer {key}", "X-Sluice-Console": "1"}
        )
        assert response.ok, response.text()

    def open(self, path: str = "/") -> Page:
        page = self.context.new_page()
        page.goto(path)
        return page

    def check(self) -> None:
        """Raises where a script failed, or the page broke its Content-Security-Policy."""
        for page in self.context.pages:
            self.faults.extend(page.evaluate("() => window.__violations ?? []"))
        unexpected = [fault for fault in self.faults if not any(part in fault for part in self.expected)]
        assert not unexpected, "\n".join(unexpected)

    def check_accessibility(self, page: Page) -> None:
        """Raises for what axe-core calls serious or critical."""
        found: dict[str, Any] = Axe().run(page).response
        bad = [
            (each["id"], each["help"], [node["html"] for node in each["nodes"]][:5])
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
        ]
        assert not bad, json.dumps(bad, indent=1)

    def check_width(self, page: Page) -> None:
        """Raises where the page is wider than its window."""
        wide, window = page.evaluate("() => [document.documentElement.scrollWidth, window.innerWidth]")
        assert wide <= window, f"{page.url} is {wide} px wide in a window of {window}"

    def _hear(self, message: ConsoleMessage) -> None:
        # What another site's pages lack is no business of the console's.
        where = message.location["url"]
        if message.type == "error" and (not where or where.startswith(self.url)):
            self.faults.append(f"console: {message.text}")


def visiting(
    browser: Browser, url: str, key: str, size: tuple[int, int] = DESKTOP, *, dark: bool = False
) -> Iterator[Visit]:
    """For a fixture: a window of whoever has this key, in which nothing may have gone wrong at the end."""
    visit = Visit.begin(browser, url, size=size, dark=dark)
    try:
        visit.sign_in(key)
        yield visit
        visit.check()
    finally:
        visit.context.close()
