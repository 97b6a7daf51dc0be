"""Names of tables and their owners."""

import re

import pytest

from services.retriever.stores.base import check_collection
from shared.contracts.collections import Owner, table_name


@pytest.mark.parametrize("collection", ["a", "x" * 48, "with-dash_"])
def test_a_tables_name_has_128_bits_of_chance_and_is_one_that_stores_take(collection: str) -> None:
    made = {table_name(collection) for _ in range(100)}
    assert len(made) == 100
    for name in made:
        assert check_collection(name) == name
        assert re.fullmatch(r"[0-9a-f]{32}", name.rpartition("-")[2])


def test_an_owner_admits_its_own_marks_and_those_that_say_nothing() -> None:
    owner = Owner(tenant="acme", collection="1")
    assert all(owner.admits(*marks) for marks in (("acme", "1"), ("", ""), ("acme", "")))
    assert not any(owner.admits(*marks) for marks in (("rival", "1"), ("rival", ""), ("acme", "2"), ("", "2")))
    assert Owner(tenant="acme").admits("acme", "2")
