"""`sluice up` with services of the caller's choice.

Usage: run_up.py DATA PORT [[NAME, WAVE, [ARG, ...]], ...] [VARIABLE ...]
"""

import json
import sys
from pathlib import Path

from rich.console import Console

from sluice.local.spec import LocalSettings, ServiceSpec
from sluice.local.supervisor import run
from sluice.local.view import View

data, port, services, *passed = sys.argv[1:]
specs = [
    ServiceSpec(name=name, wave=wave, argv=tuple(argv), port=int(port) if name == "gateway" else 0)
    for name, wave, argv in json.loads(services)
]
settings = LocalSettings(data=Path(data), port=int(port), pipelines=Path(data) / "pipelines.yaml", passed=tuple(passed))
sys.exit(run(settings, View(Console(highlight=False)), specs))
