"""The documentation says what the code does."""

from pathlib import Path

import pytest

from shared.problems import ProblemType

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("problem", ProblemType, ids=lambda problem: problem.code)
def test_the_api_page_lists_each_problem_with_its_status(problem: ProblemType) -> None:
    assert f"| `{problem.code}` | {problem.status} | {problem.title} |" in (ROOT / "docs" / "api.md").read_text()


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in _links(page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def _links(text: str) -> list[str]:
    targets = [part.split(")")[0].split("#")[0] for part in text.split("](")[1:]]
    return [target for target in targets if target and "://" not in target]
