"""Flavours of MLflow that our own frameworks serve: the same files, loaded by the same rules, without MLflow."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from services.predictor.frameworks.base import (
    Framework,
    FrameworkOptions,
    LoadedModel,
    ModelFiles,
    NotLoadableError,
    package,
)
from services.predictor.frameworks.lightgbm import LightgbmFramework
from services.predictor.frameworks.mlflow.mlmodel import MLmodel
from services.predictor.frameworks.mlflow.table import ColumnsModel
from services.predictor.frameworks.onnx import OnnxFramework
from services.predictor.frameworks.pytorch.framework import PytorchFramework
from services.predictor.frameworks.rows import INPUT
from services.predictor.frameworks.sklearn import SklearnFramework, SklearnModel
from services.predictor.frameworks.transformers.framework import TransformersFramework
from services.predictor.frameworks.transformers.tasks import is_served
from services.predictor.frameworks.xgboost import XgboostFramework

__all__ = ["load_native"]

BOOSTERS: Final = ("xgboost.core.Booster", "lightgbm.basic.Booster", "")
XGBOOST_CLASS: Final = re.compile(r"xgboost\.sklearn\.(XGB[A-Za-z]+)")
PICKLES: Final = (".pkl", ".pickle", ".joblib")

Loader = Callable[[MLmodel, Mapping[str, Any], ModelFiles, FrameworkOptions], "LoadedModel | None"]


def load_native(mlmodel: MLmodel, files: ModelFiles, options: FrameworkOptions) -> LoadedModel | None:
    """The model, where one of its flavours is served here; else None.

    Raises NotLoadableError where its framework refuses it, or what the framework raises.
    """
    for name, loader in LOADERS.items():
        flavor = mlmodel.flavors.get(name)
        # A model that brings modules of its own needs them to be imported.
        if flavor is not None and not flavor.get("code"):
            return loader(mlmodel, flavor, files, options)
    return None


def _sklearn(
    mlmodel: MLmodel, flavor: Mapping[str, Any], files: ModelFiles, options: FrameworkOptions
) -> LoadedModel | None:
    model = _by(SklearnFramework(), mlmodel.path(flavor["pickled_model"]), _tabular(mlmodel, files), options)
    assert isinstance(model, SklearnModel)
    wanted = str(mlmodel.pyfunc.get("predict_fn") or "predict")
    if wanted in {spec.name for spec in model.signature.outputs}:
        model.signature = replace(model.signature, default_outputs=(wanted,))
    return _in_columns(model, mlmodel, framed=True)


def _xgboost(
    mlmodel: MLmodel, flavor: Mapping[str, Any], files: ModelFiles, options: FrameworkOptions
) -> LoadedModel | None:
    file, kind = mlmodel.path(flavor["data"]), str(flavor.get("model_class") or "")
    if file.suffix in PICKLES:
        return None
    tabular = _tabular(mlmodel, files)
    if kind in BOOSTERS:
        return _in_columns(_by(XgboostFramework(), file, tabular, options), mlmodel, framed=False)
    found = XGBOOST_CLASS.fullmatch(kind)
    library = package("xgboost", "xgboost-cpu", "XGBoost")
    made = getattr(library, found[1], None) if found else None
    if not isinstance(made, type) or not issubclass(made, library.XGBModel):
        raise NotLoadableError(f"its class {kind[:80]!r} is not one of XGBoost's models")
    # Not a booster: a classifier gives labels, and probabilities beside them.
    estimator = made(n_jobs=options.threads or os.cpu_count() or 1)
    estimator.load_model(str(file))
    return _in_columns(SklearnModel(estimator, tabular), mlmodel, framed=True)


def _lightgbm(
    mlmodel: MLmodel, flavor: Mapping[str, Any], files: ModelFiles, options: FrameworkOptions
) -> LoadedModel | None:
    file = mlmodel.path(flavor["data"])
    booster = str(flavor.get("model_class") or "") in BOOSTERS and file.suffix not in (".skops", *PICKLES)
    framework: Framework = LightgbmFramework() if booster else SklearnFramework()
    return _in_columns(_by(framework, file, _tabular(mlmodel, files), options), mlmodel, framed=not booster)


def _onnx(
    mlmodel: MLmodel, flavor: Mapping[str, Any], files: ModelFiles, options: FrameworkOptions
) -> LoadedModel | None:
    return _by(OnnxFramework(), mlmodel.path(flavor["data"]), files, options)


def _pytorch(
    mlmodel: MLmodel, flavor: Mapping[str, Any], files: ModelFiles, options: FrameworkOptions
) -> LoadedModel | None:
    programs = sorted(mlmodel.path(flavor["model_data"]).glob("*.pt2"))
    return _by(PytorchFramework(), programs[0], files, options) if len(programs) == 1 else None


def _transformers(
    mlmodel: MLmodel, flavor: Mapping[str, Any], files: ModelFiles, options: FrameworkOptions
) -> LoadedModel | None:
    """A pipeline, which MLflow keeps in folders for the model and for its tokenizer."""
    whole = flavor.get("model_binary") and "tokenizer" in (flavor.get("components") or ())
    if not whole or not is_served(str(flavor.get("task") or "")):
        return None
    framework = TransformersFramework()
    framework.prepare()
    model = mlmodel.path(f"{flavor['model_binary']}/config.json")
    task = {"task": str(flavor["task"])} if flavor.get("task") else {}
    inner = replace(files, folder=model.parent, file=model, parameters={**task, **files.parameters})
    return framework.load_parts(inner, options, tokenizer=mlmodel.path("components/tokenizer"))


def _by(framework: Framework, file: Path, files: ModelFiles, options: FrameworkOptions) -> LoadedModel:
    framework.prepare()
    return framework.load(replace(files, folder=file.parent, file=file), options)


def _tabular(mlmodel: MLmodel, files: ModelFiles) -> ModelFiles:
    """With the tensors of the signature, where it names them."""
    schema = mlmodel.inputs
    named = schema is not None and not schema.table and all(each.name for each in schema.fields)
    if files.inputs or schema is None or not named:
        return files
    return replace(files, inputs=schema.specs(INPUT))


def _in_columns(model: LoadedModel, mlmodel: MLmodel, *, framed: bool) -> LoadedModel:
    """The model as it is, or with the columns of its signature for inputs."""
    schema = mlmodel.inputs
    if schema is None or not schema.table or not all(each.name for each in schema.fields):
        return model
    return ColumnsModel(model, schema, framed=framed)


LOADERS: Final[Mapping[str, Loader]] = {
    "sklearn": _sklearn,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "onnx": _onnx,
    "pytorch": _pytorch,
    "transformers": _transformers,
}
"""By flavour. Each returns None where only MLflow itself can load the model's files."""
