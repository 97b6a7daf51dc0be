"""Where the files of this repository are that tests read."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
EXAMPLES: Final = ROOT / "examples"
DEPLOY: Final = ROOT / "deploy"
WIRE: Final = ROOT / "tests" / "data" / "wire"
PROGRAMS: Final = ROOT / "tests" / "harness" / "programs"
