"""Which files `sluice ingest` takes, and how it groups them."""

import os
from pathlib import Path

import pytest

from sluice.cli.files import NameClashError, Picked, batches, called, pick, still_there


def tree(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def names(files: list[Picked]) -> list[str]:
    return [file.name for file in files]


def test_names_begin_with_the_given_folder_and_a_single_file_has_its_own(tmp_path: Path) -> None:
    docs = tree(tmp_path / "docs", "b.md", "a/c.md")
    assert names(pick([docs])) == ["docs/a/c.md", "docs/b.md"]
    assert names(pick([docs / "a" / "c.md"])) == ["c.md"]


def test_the_current_folder_is_called_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree(tmp_path / "docs", "a.md"))
    assert names(pick([Path()])) == ["docs/a.md"]
    assert called(Path()) == "docs"
    assert still_there(Path(), "docs/a.md")
    assert not still_there(Path(), "docs/b.md")


def test_names_that_are_no_text_are_names_of_files_that_are_still_there(tmp_path: Path) -> None:
    docs = tree(tmp_path / "docs", "a.md")
    (docs / os.fsdecode(b"caf\xe9\n.md")).write_text("x")
    assert names(pick([docs])) == ["docs/a.md", "docs/caf⟨E9⟩⟨0A⟩.md"]
    assert still_there(docs, "docs/caf⟨E9⟩⟨0A⟩.md")
    assert not still_there(docs, "docs/caf⟨E8⟩.md")


def test_hidden_files_and_tool_folders_are_left_out_unless_given_themselves(tmp_path: Path) -> None:
    docs = tree(tmp_path / "docs", "a.md", ".env", ".git/config", "node_modules/m.js", "__pycache__/m.pyc")
    assert names(pick([docs])) == ["docs/a.md"]
    assert names(pick([docs / ".env"])) == [".env"]


def test_links_that_lead_out_of_the_folder_are_left_out(tmp_path: Path) -> None:
    docs = tree(tmp_path / "docs", "a.md")
    secret = tree(tmp_path / "secret", "key.txt")
    (docs / "inside.md").symlink_to(docs / "a.md")
    (docs / "outside.md").symlink_to(secret / "key.txt")
    (docs / "folder").symlink_to(secret)
    (docs / "dangling.md").symlink_to(docs / "nowhere")
    assert names(pick([docs])) == ["docs/a.md", "docs/inside.md"]


def test_what_is_no_file_is_left_out(tmp_path: Path) -> None:
    docs = tree(tmp_path / "docs", "a.md")
    os.mkfifo(docs / "pipe")
    assert names(pick([docs])) == ["docs/a.md"]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["*.md"], [], ["docs/a.md", "docs/drafts/c.md"]),
        ([], ["drafts"], ["docs/a.md", "docs/b.txt"]),
        ([], ["drafts/*"], ["docs/a.md", "docs/b.txt"]),
        ([], ["drafts/"], ["docs/a.md", "docs/b.txt"]),
        (["*.md"], ["c.*"], ["docs/a.md"]),
        (["drafts/*"], [], ["docs/drafts/c.md"]),
    ],
)
def test_patterns_choose_by_path_or_name(
    tmp_path: Path, include: list[str], exclude: list[str], expected: list[str]
) -> None:
    docs = tree(tmp_path / "docs", "a.md", "b.txt", "drafts/c.md")
    assert names(pick([docs], include, exclude)) == expected


def test_two_files_with_one_name_are_refused_and_one_file_given_twice_is_taken_once(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "1/docs", "a.md"), tree(tmp_path / "2/docs", "a.md")
    with pytest.raises(NameClashError, match=r"both be named docs/a\.md"):
        pick([one, two])
    assert names(pick([one, one])) == ["docs/a.md"]


def test_groups_are_bounded_in_files_and_bytes_and_a_large_file_goes_alone() -> None:
    def files(*sizes: int) -> list[Picked]:
        return [Picked(path=Path(str(n)), name=str(n), size=size) for n, size in enumerate(sizes)]

    mebibyte = 2**20
    assert [len(group) for group in batches(files(*[1] * 401))] == [200, 200, 1]
    assert [names(group) for group in batches(files(20 * mebibyte, 12 * mebibyte, 1))] == [["0", "1"], ["2"]]
    assert [names(group) for group in batches(files(1, 40 * mebibyte, 1))] == [["0"], ["1"], ["2"]]
    assert list(batches([])) == []
