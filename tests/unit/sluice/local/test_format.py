"""A data folder says its format, and an older release leaves one of a later format alone."""

import json
from pathlib import Path

import pytest

from sluice.local.format import FILE, FORMAT, FormatError, check_format


def test_a_folder_without_a_format_gets_it_and_keeps_it(tmp_path: Path) -> None:
    for _ in range(2):
        check_format(tmp_path)
        assert json.loads((tmp_path / FILE).read_text()) == {"format": FORMAT}


def test_a_later_format_is_refused_with_what_to_do(tmp_path: Path) -> None:
    written = json.dumps({"format": FORMAT + 1})
    (tmp_path / FILE).write_text(written)
    with pytest.raises(FormatError, match="written by a later release"):
        check_format(tmp_path)
    assert (tmp_path / FILE).read_text() == written


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", '"1"'])
def test_a_damaged_format_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(FormatError, match="cannot be read"):
        check_format(tmp_path)
