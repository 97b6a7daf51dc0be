"""`python -m tests.contract`: write `tests/data/surface.json` from the code, and show what changed."""

import json
import sys
from typing import Any

from tests.contract.structure import differences
from tests.contract.surface import surface
from tests.contract.test_surface import STORED


def written(found: dict[str, Any]) -> str:
    """JSON with one line for each setting, metric, operation or command, so that a diff shows what changed."""

    def lines(part: dict[str, Any]) -> str:
        return ",\n".join(f"  {json.dumps(name)}: {json.dumps(part[name], sort_keys=True)}" for name in sorted(part))

    def block(name: str, part: dict[str, Any]) -> str:
        return f"{json.dumps(name)}: {{\n{lines(part)}\n}}"

    return "{\n" + ",\n".join(block(name, found[name]) for name in sorted(found)) + "\n}\n"


now = json.loads(json.dumps(surface()))
before = json.loads(STORED.read_text()) if STORED.exists() else {}
sys.stdout.write("".join(f"{line}\n" for line in differences(before, now)))
STORED.write_text(written(now))
