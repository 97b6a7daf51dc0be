"""Every contract may be the first that a program imports: none leans on another having been imported before."""

import subprocess
import sys

from tests.harness.paths import ROOT

PROGRAM = """
import importlib, pkgutil, sys
import shared.contracts

names = [found.name for found in pkgutil.walk_packages(shared.contracts.__path__, "shared.contracts.")]
assert len(names) > 50, names
for name in names:
    for loaded in [loaded for loaded in sys.modules if loaded.split(".")[0] == "shared"]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except ImportError as error:
        sys.exit(f"{name}: {error}")
"""


def test_every_module_of_the_contracts_can_be_imported_first() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
