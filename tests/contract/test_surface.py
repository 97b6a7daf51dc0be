"""What users touch is what was agreed: see `python -m tests.contract --help`."""

from typing import Any

import pytest

from tests.contract.files import current, written
from tests.contract.structure import differences

SECTIONS = ("http", "cli", "environment", "metrics", "broker", "wire", "problems", "python")


@pytest.fixture(scope="module")
def now() -> dict[str, Any]:
    return current()


@pytest.mark.parametrize("section", SECTIONS)
def test_the_surface_is_as_agreed(section: str, now: dict[str, Any]) -> None:
    found = list(differences(written()[section], now[section], (section,)))
    if found:
        pytest.fail(
            "\n".join((f"{len(found)} differences; tests/contract/__main__.py says what to do:", *found)), pytrace=False
        )


def test_every_section_is_compared(now: dict[str, Any]) -> None:
    assert written().keys() == set(SECTIONS) == now.keys() - {"unlisted"}


def test_every_message_and_record_is_part_of_it(now: dict[str, Any]) -> None:
    assert now["unlisted"] == [], "name these models in WIRE of tests/contract/surface.py"


def test_differences_are_named_one_by_one() -> None:
    before = {"a": {"x": 1, "y": [1, 2]}, "b": True, "c": [{"n": 1}]}
    now = {"a": {"x": 2, "y": [2, 3, 4]}, "b": 1, "d": {}, "c": [{"n": 2}]}
    assert list(differences(before, now)) == [
        "changed  a > x: 1 -> 2",
        "removed  a > y > []: 1",
        "added    a > y > []: 3",
        "added    a > y > []: 4",
        "changed  b: true -> 1",
        "changed  c > [] > n: 1 -> 2",
        "added    d: {}",
    ]
    assert list(differences(before, before)) == []
