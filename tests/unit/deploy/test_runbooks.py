"""Whoever is woken by an alert finds a section that says what to do, and what it names exists."""

import re
from typing import Any

import pytest
import yaml

from services.embedder.settings import EmbedderSettings
from services.gateway.settings import GatewaySettings
from services.generator.settings import GeneratorSettings
from services.retriever.settings import RetrieverSettings
from services.scheduler.settings import SchedulerSettings
from shared.contracts.problems import ProblemType
from tests.harness.paths import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text()
RULES = yaml.safe_load((ROOT / "deploy" / "observability" / "alerts.yaml").read_text())
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule
}
SECTIONS = set(re.findall(r"^## (Sluice\w+)$", PAGE, re.MULTILINE))
PAGES = ("kubernetes.md", "operations.md")
SETTINGS = (GatewaySettings, EmbedderSettings, RetrieverSettings, GeneratorSettings, SchedulerSettings)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_leads_to_its_section(alert: str) -> None:
    assert alert in SECTIONS
    assert ALERTS[alert]["annotations"]["runbook_url"].endswith(f"docs/operations.md#{alert.lower()}")


def test_each_section_has_its_alert() -> None:
    assert set(ALERTS) == SECTIONS


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_name_settings_and_anchors_that_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    known = {f"SLUICE_{name.upper()}" for settings in SETTINGS for name in settings.model_fields}
    # Of the client and of the tests, not of a service.
    known |= {"SLUICE_API_KEY", "SLUICE_TEST_NODE_SHELL"}
    assert not set(re.findall(r"SLUICE_[A-Z_]*[A-Z]\b(?!\*|_)", text)) - known
    for target, anchor in re.findall(r"\]\(([a-z-]*\.?m?d?)#([a-z0-9-]+)\)", text):
        headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / (target or page)).read_text(), re.MULTILINE)
        assert anchor in {_anchor(heading) for heading in headings}, f"{target}#{anchor}"


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_name_metrics_that_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    code = "".join(path.read_text() for folder in ("services", "shared") for path in (ROOT / folder).rglob("*.py"))
    adapted = (ROOT / "deploy" / "k8s" / "metrics" / "prometheus-adapter.yaml").read_text()
    for metric in set(re.findall(r"\bsluice_[a-z_]+\b", text)):
        assert f'"{metric}"' in code or f"as: {metric}\n" in adapted, metric


def test_the_runbook_names_problems_that_exist() -> None:
    codes = {problem.code for problem in ProblemType}
    for code in ("stage-unavailable", "broker-unavailable", "deadline-exceeded", "stage-failed", "engine-failed"):
        assert code in codes
    for code in re.findall(r"\d{3} `([a-z-]+)`|(?:with|is) `([a-z]+-[a-z-]+)`", PAGE):
        assert (code[0] or code[1]) in codes, code
