"""The documentation says what the code does."""

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from shared.contracts.jobs import JobOptions, PipelineSpec, decode_spec
from shared.contracts.pipelines import check_pipeline
from shared.contracts.problems import ProblemType
from sluice.cli import app
from tests.harness.paths import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
PATH = re.compile(r"(?<![\w/.<-])(?:benchmarks|deploy|docs|examples|services|shared|sluice|tests)/[\w/.*-]*[\w*/]")
"""A path of the repository, where no longer path or placeholder begins before it."""
NO_FILES = {"deploy/nats/secrets", "deploy/nats/secrets/kubernetes.yaml", "docs/guide/a.md"}
"""What commands make, and the name of a document in an example."""
IMAGES = re.compile(r"sluice/(?:embedder|gateway|generator|predictor|retriever|scheduler)")
GIVEN = {"folder": "/srv/docs"}
"""Parameters that the documentation tells to give."""


def _blocks(language: str) -> list[Any]:
    """The fenced blocks of all pages, each with its page."""
    found = []
    for page in PAGES:
        blocks = [text for name, text in FENCED.findall(page.read_text()) if name == language]
        found += [pytest.param(text, id=f"{page.stem}-{number}") for number, text in enumerate(blocks, 1)]
    return found


def _jobs() -> list[Any]:
    """The jobs and pipelines in the YAML and JSON of all pages and examples."""
    files = sorted((ROOT / "examples").rglob("*.yaml"))
    texts = _blocks("yaml") + _blocks("json")
    texts += [pytest.param(file.read_text(), id=f"{file.parent.name}-{file.stem}") for file in files]
    parsed = [(value, text.id) for text in texts for value in yaml.safe_load_all(text.values[0])]
    return [pytest.param(value, id=name) for value, name in parsed if isinstance(value, dict) and _is_job(value)]


def _is_job(value: dict[str, Any]) -> bool:
    of_sluice = "apiVersion" not in value and not isinstance(value.get("spec"), str)
    return of_sluice and not value.keys().isdisjoint({"kind", "spec", "steps"})


def _commands() -> list[Any]:
    """Each use of the command line on a page, in a shell's block or with a prompt before it."""
    found = []
    for page in [ROOT / "README.md", *PAGES]:
        for _, block in FENCED.findall(page.read_text()):
            lines = block.replace("\\\n", " ").splitlines()
            calls = [line.removeprefix("$ ") for line in lines if re.match(r"(\$ )?sluice [a-z]", line)]
            found += [pytest.param(call, id=f"{page.stem}: {call[:60]}") for call in calls]
    return found


@pytest.mark.parametrize("problem", ProblemType, ids=lambda problem: problem.code)
def test_the_api_page_lists_each_problem_with_its_status(problem: ProblemType) -> None:
    assert f"| `{problem.code}` | {problem.status} | {problem.title} |" in (ROOT / "docs" / "api.md").read_text()


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in _links(page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    named = {path.rstrip("/") for path in PATH.findall(page.read_text())} - NO_FILES
    assert [path for path in sorted(named) if not IMAGES.fullmatch(path) and not any(ROOT.glob(path))] == []


@pytest.mark.parametrize("job", _jobs())
def test_jobs_and_pipelines_on_the_pages_and_in_the_examples_are_taken(job: dict[str, Any]) -> None:
    if "steps" in job:
        given = GIVEN.keys() & job.get("parameters", {}).keys()
        job = {"kind": "pipeline", "name": "page"} | job
        job["parameters"] = {**job.get("parameters", {}), **{name: GIVEN[name] for name in given}}
    spec = decode_spec(job.pop("spec", None) or job)
    if job.keys() <= {"priority", "labels", "retry", "timeout"}:
        job.pop("timeout", None)
        JobOptions.model_validate(job)
    if isinstance(spec, PipelineSpec):
        check_pipeline(spec)


@pytest.mark.parametrize("call", _commands())
def test_commands_on_the_pages_are_there_with_their_options(call: str) -> None:
    words = shlex.split(call, comments=True)[1:]
    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    takes_words = any(parameter.param_type_name == "argument" for parameter in command.params)
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    asked = {word.partition("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)}
    assert asked <= options | {"--help", "-h"}
    assert takes_words or not words or words[0].startswith("-"), f"{words[0]} is no command"


@pytest.mark.parametrize("code", _blocks("python"))
def test_python_on_the_pages_can_be_parsed(code: str) -> None:
    ast.parse(code)


def _links(text: str) -> list[str]:
    targets = [part.split(")")[0].split("#")[0] for part in text.split("](")[1:]]
    return [target for target in targets if target and "://" not in target]
