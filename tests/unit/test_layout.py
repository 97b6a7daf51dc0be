"""The tree in docs/architecture.md is the tree, and its walks lead through functions that exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.paths import DOCS, ROOT

PAGE = (DOCS / "architecture.md").read_text()
PACKAGES = ("services", "shared", "sluice")
LINE = re.compile(r"^( *)([\w-]+)/ +(\S.*)$")
STEP = re.compile(r"`((?:services|shared|sluice)/[\w/]+\.py):([\w.]+)`")


def printed() -> dict[str, str]:
    """Each folder of the printed tree, with what the page says about it."""
    (block,) = re.findall(r"^```\n(services/.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    folders: dict[str, str] = {}
    parents: list[str] = []
    for line in block.splitlines():
        match = LINE.match(line)
        assert match is not None, f"not a folder with its line: {line!r}"
        depth = len(match[1]) // 2
        parents[depth:] = [match[2]]
        folders["/".join(parents)] = match[3]
    return folders


def real() -> Iterator[str]:
    for package in PACKAGES:
        yield package
        for path in (ROOT / package).rglob("*/"):
            if path.is_dir() and any(file.is_file() and file.suffix != ".pyc" for file in path.rglob("*")):
                yield path.relative_to(ROOT).as_posix()


def names_in(path: Path) -> set[str]:
    """Functions, classes and methods of a module, the methods as `Class.method`."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
            members = node.body if isinstance(node, ast.ClassDef) else []
            names |= {f"{node.name}.{m.name}" for m in members if isinstance(m, ast.FunctionDef | ast.AsyncFunctionDef)}
    return names


def test_every_folder_is_in_the_printed_tree() -> None:
    assert sorted(real()) == sorted(printed())


@pytest.mark.parametrize(("file", "name"), STEP.findall(PAGE))
def test_a_walk_leads_through_functions_that_exist(file: str, name: str) -> None:
    assert name in names_in(ROOT / file)
