"""Models of XGBoost, in its own formats."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import JsonValue

from services.predictor.frameworks.base import Arrays, FrameworkOptions, ModelFiles, package, refusing
from services.predictor.frameworks.rows import only_input, table_signature
from shared.contracts.tensors import Datatype, TensorSpec

__all__ = ["XgboostFramework", "XgboostModel"]

PREDICT = "predict"


class XgboostFramework:
    name = "xgboost"
    platform = "xgboost"
    files = ("model.ubj", "model.json", "*.ubj", "model.bst")

    def prepare(self) -> None:
        package("xgboost", "xgboost-cpu", "XGBoost")

    def load(self, files: ModelFiles, options: FrameworkOptions) -> "XgboostModel":
        import xgboost

        booster = xgboost.Booster()
        booster.load_model(str(files.file))
        booster.set_param({"nthread": options.threads or os.cpu_count() or 1})
        return XgboostModel(booster, files)


class XgboostModel:
    """A booster; `predict` is what its objective says: a value, a probability, or one for each class. NaN is a value
    that is missing."""

    def __init__(self, booster: Any, files: ModelFiles) -> None:
        self._booster = booster
        output = TensorSpec(name=PREDICT, datatype=Datatype.FP32, shape=(-1,))
        self.signature = table_signature(
            files.inputs,
            files.outputs,
            [output],
            columns=int(booster.num_features()),
            datatype=Datatype.FP32,
            default_outputs=(PREDICT,),
        )

    def predict(self, inputs: Arrays, outputs: tuple[str, ...], _: Mapping[str, JsonValue]) -> Arrays:
        rows = only_input(inputs).astype(np.float32, copy=False)
        # XGBoost's own errors are ValueErrors.
        with refusing(ValueError, TypeError):
            made = np.asarray(self._booster.inplace_predict(rows))
        return dict.fromkeys(outputs, made)

    def close(self) -> None:
        self._booster = None
