"""How conditions come into objects, and how these become the text of a template."""

from deploy.helm.source.trees import ABSENT, Choice, merge
from deploy.helm.source.writer import HEAD, document


def test_what_one_option_adds_stands_under_its_condition() -> None:
    assert merge({"a": 1}, {"a": 1, "b": 2}, {"a": 1}, ".X") == {"a": 1, "b": Choice(".X", 2)}


def test_what_an_option_removes_stays_removed_when_another_changes_it() -> None:
    tree = merge({"a": {"b": 1}}, {}, {"a": {"b": 1}}, ".X")
    changed = merge({"a": {"b": 1}}, {"a": {"b": 2}}, tree, ".Y")
    assert changed == {"a": Choice(".X", ABSENT, {"b": Choice(".Y", 2, 1)})}


def test_the_later_of_two_options_wins() -> None:
    tree = merge({"a": 1}, {"a": 2}, {"a": 1}, ".X")
    assert merge({"a": 1}, {"a": 3}, tree, ".Y") == {"a": Choice(".Y", 3, Choice(".X", 2, 1))}


def test_items_are_the_same_by_their_names() -> None:
    before = [{"name": "a", "value": 1}]
    after = [{"name": "b", "value": 2}, {"name": "a", "value": 3}]
    merged = merge(before, after, before, ".X")
    assert merged == [{"name": "a", "value": Choice(".X", 3, 1)}, Choice(".X", {"name": "b", "value": 2})]


def test_neighbours_under_one_condition_share_it() -> None:
    text = document([{"kind": "A", "b": Choice(".X", 1), "c": Choice(".X", 2)}])
    assert text == HEAD + "---\nkind: A\n{{- if .X }}\nb: 1\nc: 2\n{{- end }}\n"


def test_a_script_among_items_is_written_as_it_is() -> None:
    assert document([{"args": ["-c", "a\nb\n"]}]) == HEAD + "---\nargs:\n  - -c\n  - |\n    a\n    b\n"


def test_braces_that_helm_would_read_are_quoted() -> None:
    assert '{{ "{{" }} $value }} wait' in document([{"text": "{{ $value }} wait"}])
