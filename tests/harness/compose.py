"""docker-compose.yml in a real Docker engine, as a project of its own on a free port."""

import json
import os
import shutil
import subprocess
from functools import cache
from types import TracebackType
from typing import Any, Final, Self

from sluice import Client
from tests.harness.paths import ROOT

__all__ = ["EDGE", "SERVICES", "Compose", "has_image", "why_not"]

SERVICES: Final = ("gateway", "embedder", "retriever", "generator", "predictor", "scheduler")
EDGE: Final = "deploy/compose/edge.yaml"
PATIENCE: Final = 300.0


@cache
def why_not() -> str | None:
    """Why there can be no containers here, or None where there can."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    if _fails("info"):
        return "no Docker engine answers"
    if _fails("compose", "version"):
        return "docker has no compose plugin"
    missing = [image for image in _images() if not has_image(image)]
    return f"build the images first; missing: {', '.join(missing)}" if missing else None


def has_image(name: str) -> bool:
    return not _fails("image", "inspect", name)


def _images() -> list[str]:
    tag = os.environ.get("SLUICE_VERSION", "0.1.0")
    return [*(f"sluice/{name}:{tag}" for name in SERVICES), os.environ.get("SLUICE_NATS_IMAGE", "nats:2.15-alpine")]


def _fails(*arguments: str) -> bool:
    try:
        return subprocess.run(["docker", *arguments], capture_output=True, check=False, timeout=30).returncode != 0
    except (OSError, subprocess.TimeoutExpired):
        return True


class Compose:
    """The containers, from `up` to `down` with all volumes; `overlay` is a further compose file."""

    def __init__(self, project: str, overlay: str | None = None) -> None:
        self.project = project
        files = ["docker-compose.yml", *([overlay] if overlay else [])]
        self._options = ["--project-directory", str(ROOT), "--project-name", project]
        self._options += [option for file in files for option in ("--file", str(ROOT / file))]
        self._command = ["docker", "compose", *self._options]
        self._env = {**os.environ, "SLUICE_PORT": "0", "COMPOSE_PROFILES": ""}
        self._front = "edge" if overlay == EDGE else "gateway"

    @property
    def url(self) -> str:
        return f"http://{self.run('port', self._front, '8080').strip()}"

    def client(self, timeout: float = 60.0) -> Client:
        return Client(self.url, api_key=self.key, timeout=timeout)

    @property
    def key(self) -> str:
        """The admin key that was made at the first start."""
        return self.inside("gateway", "cat", "/run/sluice/admin.key").stdout.strip()

    def run(self, *arguments: str) -> str:
        """`docker compose …`: what it printed. Fails with its errors."""
        done = subprocess.run(
            [*self._command, *arguments], env=self._env, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}\n{done.stderr}"
        return done.stdout

    def up(self, *services: str) -> None:
        """Start what does not run, and wait until it is healthy."""
        self.run("up", "--detach", "--no-build", "--wait", "--wait-timeout", str(int(PATIENCE)), *services)

    def recreate(self, service: str) -> None:
        """Put a new container in the place of the old one, as an update does; returns once it is ready."""
        self.up("--no-deps", "--force-recreate", service)

    def replace(self, service: str) -> None:
        """Start new containers beside the old ones, which go once the new ones are ready."""
        script = str(ROOT / "deploy" / "compose" / "replace.sh")
        subprocess.run([script, service, *self._options], env=self._env, check=True, timeout=PATIENCE)

    def inside(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        """The end of a command in a container of this service, whatever its exit code."""
        return subprocess.run(
            [*self._command, "exec", "-T", service, *command],
            env=self._env,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def containers(self, service: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run("ps", "--format", "json", service).splitlines() if line.strip()]

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run("down", "--volumes", "--timeout", "5")
