"""Models of LightGBM, in its text format."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import JsonValue

from services.predictor.frameworks.base import (
    Arrays,
    FrameworkOptions,
    ModelFiles,
    NotLoadableError,
    package,
    refusing,
)
from services.predictor.frameworks.rows import only_input, table_signature
from shared.contracts.tensors import Datatype, TensorSpec

__all__ = ["LightgbmFramework", "LightgbmModel"]

PREDICT = "predict"

PROBE: Final = "import lightgbm, sys; lightgbm.Booster(model_file=sys.argv[1])"
PROBE_SECONDS: Final = 120


class LightgbmFramework:
    name = "lightgbm"
    platform = "lightgbm"
    files = ("model.txt", "*.txt")

    def prepare(self) -> None:
        package("lightgbm", "lightgbm", "LightGBM")

    def load(self, files: ModelFiles, options: FrameworkOptions) -> "LightgbmModel":
        import lightgbm

        _try_out(files.file)
        booster = lightgbm.Booster(model_file=str(files.file))
        return LightgbmModel(booster, files, options.threads or os.cpu_count() or 1)


def _try_out(file: Path) -> None:
    """Read a model in a process of its own: the library ends its process where the file is damaged.

    Raises NotLoadableError.
    """
    command = [sys.executable, "-c", PROBE, str(file)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PROBE_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise NotLoadableError(f"{file.name} cannot be read within {PROBE_SECONDS} s") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise NotLoadableError(f"{file.name} is damaged: {(said or ['the library ended'])[-1][:300]}")


class LightgbmModel:
    """A booster; `predict` is what its objective says: a value, a probability, or one for each class. NaN is a value
    that is missing."""

    def __init__(self, booster: Any, files: ModelFiles, threads: int) -> None:
        self._booster = booster
        self._threads = threads
        classes = int(booster.num_model_per_iteration())
        output = TensorSpec(name=PREDICT, datatype=Datatype.FP64, shape=(-1, classes) if classes > 1 else (-1,))
        self.signature = table_signature(
            files.inputs,
            files.outputs,
            [output],
            columns=int(booster.num_feature()),
            datatype=Datatype.FP64,
            default_outputs=(PREDICT,),
        )

    def predict(self, inputs: Arrays, outputs: tuple[str, ...], _: Mapping[str, JsonValue]) -> Arrays:
        from lightgbm.basic import LightGBMError

        with refusing(ValueError, TypeError, LightGBMError):
            made = np.asarray(self._booster.predict(only_input(inputs), num_threads=self._threads))
        return dict.fromkeys(outputs, made)

    def close(self) -> None:
        self._booster = None
