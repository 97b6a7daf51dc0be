"""Files that say who may see the files of a folder, as the scheduler and the command line read them."""

from pathlib import Path, PurePosixPath

import pytest

from services.scheduler.ingestion.sources.permission_files import PERMISSION_FILE, PermissionFiles
from shared.contracts.problems import Problem, ProblemType
from sluice.cli import permission_files as local

TOP = """
- files: "hr/**"
  allowed: [group:hr]
- files: "*.md"
  allowed: [public]
- files: "**/secret.*"
  allowed: []
"""
BELOW = """
- {files: handbook.md, allowed: [public]}
- {files: "pay/*", allowed: [user:alice, group:board]}
"""

EXPECTED = {
    "readme.md": ("public",),
    "notes/readme.md": None,
    "notes/secret.txt": (),
    "secret.txt": (),
    "hr/handbook.md": ("public",),
    "hr/pay/2026.txt": ("user:alice", "group:board"),
    "hr/pay/old/2025.txt": ("group:hr",),
    "hr/other.md": ("group:hr",),
    "other.txt": None,
}


def test_the_nearest_rule_that_matches_first_says_who_may_see_a_file(tmp_path: Path) -> None:
    files = PermissionFiles()
    files.add((), TOP.encode())
    files.add(("hr",), BELOW.encode())
    (tmp_path / "hr").mkdir()
    (tmp_path / PERMISSION_FILE).write_text(TOP)
    (tmp_path / "hr" / PERMISSION_FILE).write_text(BELOW)
    here = local.PermissionFiles(tmp_path)
    for name, allowed in EXPECTED.items():
        assert files.allowed(PurePosixPath(name).parts) == allowed, name
        assert here.allowed(tmp_path / name) == allowed, name


@pytest.mark.parametrize(
    "text",
    [
        "files: a",
        "- files: a",
        "- {files: a, allowed: group:hr}",
        "- {files: [a], allowed: [group:hr]}",
        "- {files: a, allowed: [7]}",
        "- {files: a, allowed: [group:hr], alowed: [x]}",
        "- [",
        "text",
        "!!python/object:os.system {}",
    ],
)
def test_a_file_that_says_nothing_certain_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Problem) as refused:
        PermissionFiles().add((), text.encode())
    assert refused.value.kind is ProblemType.SOURCE_REFUSED
    (tmp_path / PERMISSION_FILE).write_text(text)
    with pytest.raises(local.PermissionFileError):
        local.PermissionFiles(tmp_path).allowed(tmp_path / "a")


def test_a_folder_without_such_a_file_says_nothing(tmp_path: Path) -> None:
    assert local.PermissionFiles(tmp_path).allowed(tmp_path / "a") is None
    empty = PermissionFiles()
    empty.add((), b"")
    assert empty.allowed(("a",)) is None
