"""Every framework, and which of them runs the files of a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from services.predictor.frameworks.base import Framework, NotLoadableError
from services.predictor.frameworks.lightgbm import LightgbmFramework
from services.predictor.frameworks.mlflow.framework import MlflowFramework
from services.predictor.frameworks.onnx import OnnxFramework
from services.predictor.frameworks.openvino import OpenvinoFramework
from services.predictor.frameworks.python import PythonFramework
from services.predictor.frameworks.pytorch.framework import PytorchFramework
from services.predictor.frameworks.sklearn import SklearnFramework
from services.predictor.frameworks.transformers.framework import TransformersFramework
from services.predictor.frameworks.xgboost import XgboostFramework

__all__ = ["FRAMEWORKS", "find_file", "framework_named"]

FRAMEWORKS: Final[Mapping[str, Framework]] = {
    framework.name: framework
    for framework in (
        MlflowFramework(),
        OnnxFramework(),
        OpenvinoFramework(),
        SklearnFramework(),
        XgboostFramework(),
        LightgbmFramework(),
        PythonFramework(),
        TransformersFramework(),
        PytorchFramework(),
    )
}
"""By name, in the order in which a folder without a configuration is looked through."""

ALIASES: Final[Mapping[str, str]] = {
    "onnxruntime": "onnx",
    "onnxruntime_onnx": "onnx",
    "onnx_onnxv1": "onnx",
    "pytorch_libtorch": "pytorch",
    "torch": "pytorch",
    "mlflow_pyfunc": "mlflow",
    "mlserver_mlflow.mlflowruntime": "mlflow",
    "huggingface": "transformers",
    "mlserver_huggingface.huggingfaceruntime": "transformers",
    "mlserver_sklearn.sklearnmodel": "sklearn",
    "mlserver_xgboost.xgboostmodel": "xgboost",
    "mlserver_lightgbm.lightgbmmodel": "lightgbm",
    "mlserver_onnx.onnxmodel": "onnx",
}
"""What Triton's configurations, and MLServer's, call a framework."""


def framework_named(name: str) -> Framework:
    """Raises NotLoadableError."""
    framework = FRAMEWORKS.get(ALIASES.get(name.lower(), name.lower()))
    if framework is None:
        raise NotLoadableError(f"there is no framework {name[:80]!r}; there are {', '.join(FRAMEWORKS)}")
    return framework


def find_file(folder: Path, framework: Framework | None, file: str) -> tuple[Framework, Path]:
    """What runs a version of a model, and its file. Without a framework the file's name says which: the names of all
    frameworks come before their patterns, as a folder may also have a text beside its model.

    Raises NotLoadableError where there is none.
    """
    candidates = (framework,) if framework is not None else tuple(FRAMEWORKS.values())
    if file:
        named = folder / file
        for candidate in candidates:
            if named.is_file() and (framework is not None or any(named.match(pattern) for pattern in candidate.files)):
                return candidate, named
    else:
        looked_through = [(candidate, pattern) for candidate in candidates for pattern in candidate.files]
        for candidate, pattern in sorted(looked_through, key=lambda each: "*" in each[1]):
            # Reading a pipe, or a device, may never end.
            if len(found := sorted(folder.glob(pattern))) == 1 and found[0].is_file():
                return candidate, found[0]
    looked_for = framework.files if framework else [f for each in FRAMEWORKS.values() for f in each.files]
    names = file or ", ".join(name for name in looked_for if "*" not in name)
    raise NotLoadableError(f"the folder {folder.name} of the version has no file {names}")
