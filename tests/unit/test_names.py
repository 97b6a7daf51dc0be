"""Names are the field's nouns: the words that once stood for them do not come back."""

import io
import re
import tokenize
from typing import Final

import pytest

from tests.harness.paths import ROOT

FOLDERS: Final = ("services", "shared", "sluice", "tests", "benchmarks", "examples")

MODULES: Final = """
access answering answers asking bodies cleaning comparing course describing due edge fitting fleet following grants
guarding harmless heap incoming job_news keeper keyring later lifeline loading mirroring models_directory observing
orphans outbox outlet pacing performer query_voice reach reaching removal sampling shortcut telling ticking traffic
turns
upkeep words bench desk guarded job_desk keyed library mischief openai_face
"""
"""Names that no module has."""

ALLOWED: Final = {
    "services/generator/engines/vllm/sampling.py",  # vLLM's own term
    "services/scheduler/ingestion/parsing/cleaning.py",  # of text
}

IDENTIFIERS: Final = """
answering asking bench course desk duty errands flight fleet guarding harmless keyring landscape
lifeline
mailroom mirroring mortal observing orphans outbox outlet pacing performer reaching sayings shortcut telling ticking
upkeep vigil voice command_desk job_desk job_news models_directory open_bench open_desk open_library query_voice
"""
"""Names that no variable, attribute, function or class has, in whatever case and with or without underscores around."""


def in_one_form(name: str) -> str:
    """`JobDesk`, `_job_desk` and `JOB_DESK` are `job_desk`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip("_")).lower()


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_module_has_a_word_of_the_old_dialect_for_a_name(folder: str) -> None:
    old = MODULES.split()
    paths = (path for path in (ROOT / folder).rglob("*.py") if path.stem.removeprefix("test_") in old)
    assert sorted({path.relative_to(ROOT).as_posix() for path in paths} - ALLOWED) == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_identifier_is_a_word_of_the_old_dialect(folder: str) -> None:
    old, found = set(IDENTIFIERS.split()), set()
    for path in (ROOT / folder).rglob("*.py"):
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
            if token.type == tokenize.NAME and in_one_form(token.string) in old:
                found.add(f"{path.relative_to(ROOT)}: {token.string}")
    assert sorted(found) == []
