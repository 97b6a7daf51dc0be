"""The surface as it is written, and as it is."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

from tests.contract.structure import canonical, pretty

__all__ = ["current", "write", "written"]

ROOT: Final = Path(__file__).parents[2]
SURFACE: Final = ROOT / "tests" / "data" / "surface.json"

SAME: Final = "$same"
"""The only member of an object that stands for one in the file's table of repeated objects."""

SHORT: Final = 200
"""Characters of an object that is written out wherever it is."""


def written() -> dict[str, Any]:
    """The surface as it was agreed."""
    stored = json.loads(SURFACE.read_text())

    def whole(value: Any) -> Any:
        if isinstance(value, list):
            return [whole(item) for item in value]
        if not isinstance(value, dict):
            return value
        if value.keys() == {SAME}:
            return whole(stored["repeated"][value[SAME]])
        return {key: whole(member) for key, member in value.items()}

    found: dict[str, Any] = whole(stored["surface"])
    return found


def write(surface: dict[str, Any]) -> None:
    """Agree on a surface. Large objects that are in it several times are written once."""
    counts: Counter[str] = Counter()

    def count(value: Any) -> None:
        if isinstance(value, dict):
            counts[canonical(value)] += 1
        for member in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            count(member)

    repeated: dict[str, Any] = {}

    def shortened(value: Any, times: int) -> Any:
        if isinstance(value, list):
            return [shortened(item, times) for item in value]
        if not isinstance(value, dict):
            return value
        text = canonical(value)
        if len(text) <= SHORT or counts[text] <= times:
            return {key: shortened(member, times) for key, member in value.items()}
        name = hashlib.sha256(text.encode()).hexdigest()[:12]
        if name not in repeated:
            repeated[name] = {key: shortened(member, counts[text]) for key, member in value.items()}
        return {SAME: name}

    count(surface)
    stored = {"surface": shortened(surface, 1), "repeated": repeated}
    SURFACE.write_text(f"{pretty(stored)}\n")


def current() -> dict[str, Any]:
    """The surface of the code: made in a process of its own, so that neither variables nor other tests have a say."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    program = [sys.executable, "-m", "tests.contract.surface"]
    done = subprocess.run(program, cwd=ROOT, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
