"""A file's path and its document's name are the same thing, written twice."""

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.contracts.documents import check_document_name, spell_bytes, spell_name
from sluice.cli.file_names import path_of, spelled

PATHS = st.binary(min_size=1, max_size=60).filter(lambda path: b"\0" not in path and path.strip(b"/. ") == path)


@given(PATHS)
@example("⟨E9⟩".encode())
@example("⟨⟨E9⟩⟩".encode())
@example(b"\xe9\xe2\x9f\xa8E9\xe2\x9f\xa9")
def test_every_path_has_a_name_of_its_own_that_leads_back_to_it(path: bytes) -> None:
    name = spelled(os.fsdecode(path))
    assert os.fsencode(path_of(name)) == path
    assert spell_name(os.fsdecode(path)) == name
    assert check_document_name(name.replace("//", "/x/").replace("/./", "/x/").replace("/../", "/x/"))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"caf\xe9.txt", "caf⟨E9⟩.txt"),
        (b"two\nlines\t.txt", "two⟨0A⟩lines⟨09⟩.txt"),
        (b'5" pipe\\.txt', "5⟨22⟩ pipe⟨5C⟩.txt"),
        ("a⟨E9⟩b⟨x⟩".encode(), "a⟨E2⟩⟨9F⟩⟨A8⟩E9⟩b⟨x⟩"),
        ("plain 名前.txt".encode(), "plain 名前.txt"),
    ],
)
def test_what_no_name_may_have_is_written_as_bytes(path: bytes, name: str) -> None:
    assert spelled(os.fsdecode(path)) == name


def test_a_sender_that_wrote_a_name_is_believed() -> None:
    assert spell_bytes(os.fsdecode(b"caf\xe9")) == "caf⟨E9⟩"
    assert spell_bytes("caf⟨E9⟩ a\\b") == "caf⟨E9⟩ a\\b"
