"""Each service's Dockerfile keeps the rules that all of them share."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.harness.paths import ROOT

SERVICES = ("gateway", "embedder", "retriever", "generator", "predictor", "scheduler")
COMPILERS = re.compile(r"\b(gcc|g\+\+|clang|build-essential|cc|make|cargo|rustc|nvcc|python3-dev)\b")
OWN = {"services", "shared", "sluice"}
OTHERWISE = {
    ("embedder", "transformers"): "sentence-transformers",
    ("gateway", "starlette"): "fastapi",
    ("generator", "torch"): "vllm",
    ("generator", "transformers"): "vllm",
    ("scheduler", "aiohttp"): "kubernetes",
    ("retriever", "numpy"): "lancedb",
    ("embedder", "huggingface_hub"): "tokenizers",
    ("generator", "huggingface_hub"): "tokenizers",
    ("predictor", "sklearn"): "skops",
    ("predictor", "joblib"): "skops",
}
"""What a service imports that comes with another package that its extra names."""

ADDED = {("predictor", "mlflow"), ("predictor", "pandas")}
"""What people add to an image of their own: without it, those models alone that need it are not served."""

OPTIONAL = {"embedder": {"torch"}, "generator": {"vllm"}, "predictor": {"pytorch"}, "retriever": {"qdrant"}}
"""Extras of some variants of an image, or for some of its settings."""

COMMAND_LINE = {"s3"}
"""Extras of the command line, which is in every image: it says which one a command needs."""

FOR_SOME = {"prompting": {"generator"}}
"""Packages of shared that not every service may import."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One stage of a Dockerfile: its lines, joined where they continue, without comments."""

    base: str
    name: str
    lines: tuple[str, ...]

    def of(self, instruction: str) -> list[str]:
        return [line.partition(" ")[2] for line in self.lines if line.startswith(instruction + " ")]


def phases(service: str) -> list[Phase]:
    text = "\n".join(
        line
        for line in (ROOT / "services" / service / "Dockerfile").read_text().splitlines()
        if not line.lstrip().startswith("#")
    )
    parts = re.split(r"^FROM ", text.replace("\\\n", " "), flags=re.MULTILINE)[1:]
    found = []
    for part in parts:
        first, *lines = part.splitlines()
        base, _, name = first.partition(" AS ")
        found.append(Phase(base=base, name=name, lines=tuple(" ".join(line.split()) for line in lines if line.strip())))
    return found


def extras(service: str) -> set[str]:
    """The extras that the image installs, in whatever variant."""
    named = re.findall(r"whl\)\[([a-z,]+)\]", " ".join(phases(service)[0].lines))
    return {extra for names in named for extra in names.split(",")}


def plain(name: str) -> str:
    return re.split(r"[\[<>=!;~ ]", name)[0].lower().replace("_", "-")


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_runs_as_a_user_who_is_not_root(service: str) -> None:
    assert phases(service)[-1].of("USER") == ["65532:65532"]


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_is_built_in_more_than_one_stage_and_starts_from_the_bare_base(service: str) -> None:
    build, *others, final = phases(service)
    assert build.name == "build"
    assert {phase.base for phase in (build, *others)} == {"${BASE}"}
    assert final.base in {"${BASE}", "${ENGINE}"}
    assert all(copied.startswith("--from=build ") for copied in final.of("COPY"))


@pytest.mark.parametrize("service", SERVICES)
def test_only_the_image_of_vllm_on_gpus_has_a_compiler(service: str) -> None:
    for phase in phases(service)[1:]:
        assert phase.name == "vllm-cuda" or not any(COMPILERS.search(line) for line in phase.of("RUN"))


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_checks_its_own_health_without_curl(service: str) -> None:
    (check,) = phases(service)[-1].of("HEALTHCHECK")
    assert '["python", "-P", "-m", "shared.service.health"]' in check


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_names_what_it_is(service: str) -> None:
    labels = " ".join(phases(service)[-1].of("LABEL"))
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in labels
    assert f'"sluice-{service}"' in labels
    assert f"ARG VERSION={PROJECT['version']}" in phases(service)[-1].lines


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_installs_the_extras_of_its_service_and_no_others(service: str) -> None:
    assert extras(service) == {"bus", service} | OPTIONAL.get(service, set())


@pytest.mark.parametrize("service", SERVICES)
def test_all_that_an_image_installs_is_locked(service: str) -> None:
    build = " ".join(phases(service)[0].lines)
    installs = re.findall(r"(?<!pip wheel )\bpip install [^;&]*", build)
    assert installs
    for install in installs:
        assert re.search(r"--(constraint|requirement) requirements[a-z-]*\.lock", install), install


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_holds_no_code_of_another_service(service: str) -> None:
    copied = " ".join(phases(service)[0].of("COPY"))
    assert set(re.findall(r"services/([a-z]+)", copied)) == {service}


@pytest.mark.parametrize("service", SERVICES)
def test_the_extras_of_an_image_hold_all_that_its_code_imports(service: str) -> None:
    in_image = {plain(wanted) for wanted in PROJECT["dependencies"]} | _named(extras(service))
    owners = packages_distributions()
    own = _imported(ROOT / "services" / service, *_shared(service))
    for module in own | _imported(ROOT / "sluice"):
        if (service, module) in ADDED:
            continue
        named = in_image if module in own else in_image | _named(COMMAND_LINE)
        owned = {plain(owner) for owner in owners.get(module, [module])}
        owned |= {OTHERWISE.get((service, module), module), *_brought(module)}
        assert owned & named, f"{service} imports {module}, which its extras do not name"


def _named(names: set[str]) -> set[str]:
    """The packages that extras name."""
    return {plain(wanted) for extra in names for wanted in PROJECT["optional-dependencies"][extra]}


def _brought(module: str) -> set[str]:
    """What everything brings along: Pydantic its core, the SDK of OpenTelemetry its API."""
    return {"pydantic-core": {"pydantic"}, "opentelemetry": {"opentelemetry-sdk"}}.get(module.replace("_", "-"), set())


def _shared(service: str) -> list[Path]:
    """What of shared the service may import: the import contracts keep it from the rest."""
    paths = [path for path in (ROOT / "shared").iterdir() if path.suffix in ("", ".py")]
    return [path for path in paths if service in FOR_SOME.get(path.name, {service})]


def _imported(*paths: Path) -> set[str]:
    modules = set()
    for path in paths:
        for file in path.rglob("*.py") if path.is_dir() else [path]:
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    modules |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    modules.add(node.module.split(".")[0])
    return modules - OWN - set(sys.stdlib_module_names)


@pytest.mark.parametrize("service", SERVICES)
def test_no_torch_comes_along_with_the_variant_that_is_built_by_default(service: str) -> None:
    wanted = [*PROJECT["dependencies"]]
    for extra in extras(service) - OPTIONAL.get(service, set()):
        wanted += PROJECT["optional-dependencies"][extra]
    named = [Requirement(each) for each in wanted]
    everything = _with_dependencies(each for each in named if each.marker is None or each.marker.evaluate())
    assert "pydantic" in everything
    assert not everything & {"torch", "transformers", "sentence-transformers"}


def _with_dependencies(wanted: Iterable[Requirement]) -> set[str]:
    """The names of these packages and of all that they ask for here."""
    waiting, seen = [(plain(each.name), frozenset(each.extras)) for each in wanted], set()
    while waiting:
        name, chosen = waiting.pop()
        if (name, chosen) in seen:
            continue
        seen.add((name, chosen))
        asked = [Requirement(each) for each in requires(name) or ()]
        here = [
            each
            for each in asked
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in ("", *chosen))
        ]
        waiting += [(plain(each.name), frozenset(each.extras)) for each in here]
    return {name for name, _ in seen}


def test_the_build_sees_only_what_images_are_made_of() -> None:
    first, *rules = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert first == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == {
        "LICENSE",
        "pyproject.toml",
        "requirements*.lock",
        "services",
        "shared",
        "sluice",
    }
