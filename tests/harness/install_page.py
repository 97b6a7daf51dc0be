"""The section Install of docs/kubernetes.md as a person follows it: its commands, by a shell in a fresh checkout."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.harness.paths import DEPLOY, PROGRAMS, ROOT

__all__ = ["Checkout", "install_commands"]

SECTION: Final = re.compile(r"^## Install\n(.*?)^## ", re.MULTILINE | re.DOTALL)
BLOCK: Final = re.compile(r"^( *)```sh\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)

PARTS: Final = ("Makefile", "pyproject.toml", "requirements.lock", "README.md", "shared", "services", "sluice")


def install_commands() -> list[str]:
    """The shell commands of the section, a text for each block, in their order."""
    section = SECTION.search((ROOT / "docs" / "kubernetes.md").read_text())
    assert section is not None
    return [textwrap.dedent(text) for _, text in BLOCK.findall(section[1])]


class Checkout:
    """A copy of the repository, with this environment as its `.venv`, and a recorder in place of `kubectl`."""

    def __init__(self, folder: Path, kubectl: Path) -> None:
        self.folder = folder / "checkout"
        self.folder.mkdir()
        for part in PARTS:
            (self.folder / part).symlink_to(ROOT / part)
        shutil.copytree(DEPLOY, self.folder / "deploy", ignore=shutil.ignore_patterns("secrets"))
        (self.folder / "docs").mkdir()
        shutil.copy(ROOT / "docs" / "ingestion.md", self.folder / "docs")
        (self.folder / ".venv").symlink_to(sys.prefix)
        self._record = folder / "record.json"
        self._exported = folder / "exported.sh"
        self._exported.touch()
        self._env = {**os.environ, "KUBECTL": str(kubectl), "RECORD": str(self._record)}

    def run(self, commands: str, env: Mapping[str, str] = {}) -> str:
        """Run a block as typed into the shell of those before. Returns what it prints; fails with that where one of
        its commands fails."""
        shell = f"""
            set -eo pipefail
            . "{self._exported}"
            kubectl() {{ "{sys.executable}" "{PROGRAMS / "kubectl_recorder.py"}" "$@"; }}
        """
        script = f'{textwrap.dedent(shell)}\n{commands}\nwait\nexport -p > "{self._exported}"\n'
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env={**self._env, **env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What the cluster would have by now."""
        found: list[dict[str, Any]] = json.loads(self._record.read_text())
        return found
