"""Any model of MLflow, by `mlflow.pyfunc`: it runs code of the model, so the operator has to allow that."""

import os
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from pydantic import JsonValue

from services.predictor.frameworks.base import (
    Array,
    Arrays,
    FrameworkOptions,
    ModelFiles,
    NotLoadableError,
    Signature,
    package,
    refusing,
)
from services.predictor.frameworks.mlflow.mlmodel import OUTPUT, Field, MLmodel, Schema
from services.predictor.frameworks.mlflow.table import frame, texts
from services.predictor.frameworks.rows import INPUT

__all__ = ["PyfuncModel", "load_pyfunc"]

PICKLED: Final = "mlflow.pyfunc.model"
"""What loads a Python model that is a pickle."""

FROM_CODE: Final = "mlflow.pyfunc.loaders.code_model"
"""What loads a Python model that is a file of code."""


def load_pyfunc(mlmodel: MLmodel, files: ModelFiles, options: FrameworkOptions) -> "PyfuncModel":
    """Raises NotLoadableError where the operator does not allow it, where MLflow is not installed, or where nothing
    says what tensors the model takes."""
    flavor = mlmodel.pyfunc
    if not flavor:
        raise NotLoadableError(f"it has the flavours {', '.join(mlmodel.flavors)[:200]}, none of which is served")
    _check_allowed(flavor, options)
    schema = mlmodel.inputs or _declared(files)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    library = package("mlflow.pyfunc", "mlflow", "a model of MLflow's python_function", extra="predictor")
    model = library.load_model(str(mlmodel.folder), suppress_warnings=True)
    return PyfuncModel(model, schema, mlmodel, files)


class PyfuncModel:
    """Requests are joined where the configuration names a `max_batch_size`: then the first dimension of all tensors
    counts rows."""

    def __init__(self, model: Any, schema: Schema, mlmodel: MLmodel, files: ModelFiles) -> None:
        self._model = model
        self._schema = schema
        self._params = mlmodel.params
        outputs = mlmodel.outputs
        several = outputs is not None and len(outputs.fields) > 1 and not all(each.name for each in outputs.fields)
        declared = outputs.specs(OUTPUT) if outputs is not None and not several else ()
        self._output = declared[0].name if len(declared) == 1 else OUTPUT
        self.signature = Signature(
            inputs=schema.specs(INPUT),
            outputs=files.outputs or declared,
            rows=files.batches,
            optional=schema.optional,
        )

    def predict(self, inputs: Arrays, outputs: tuple[str, ...], parameters: Mapping[str, JsonValue]) -> Arrays:
        from mlflow.exceptions import MlflowException

        data = self._data(inputs)
        given = {name: value for name, value in parameters.items() if name in self._params}
        # MLflow compares the input with the signature, more closely than the protocol can.
        with refusing(MlflowException):
            made = self._model.predict(data, params=given or None)
        named = self._named(made)
        return {name: value for name, value in named.items() if not outputs or name in outputs}

    def close(self) -> None:
        self._model = None

    def _data(self, inputs: Arrays) -> Any:
        if self._schema.table:
            return frame(inputs, self._schema)
        arrays = {name: texts(array) if array.dtype.kind == "O" else np.array(array) for name, array in inputs.items()}
        return arrays if self._schema.fields[0].name else arrays[INPUT]

    def _named(self, made: Any) -> dict[str, Array]:
        if hasattr(made, "columns") and hasattr(made, "to_numpy"):
            return {str(name): _array(made[name]) for name in made.columns}
        if isinstance(made, Mapping):
            return {str(name): _array(value) for name, value in made.items()}
        return {self._output: _array(made)}


def _array(value: Any) -> Array:
    array = np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value)
    if array.dtype.kind == "M":
        return np.datetime_as_string(array).astype(object)
    return array.reshape(1) if array.ndim == 0 else array


def _check_allowed(flavor: Mapping[str, Any], options: FrameworkOptions) -> None:
    """Raises NotLoadableError, which names the settings."""
    loader = flavor.get("loader_module")
    code = loader != PICKLED or bool(flavor.get("code")) or bool(flavor.get("model_code_path"))
    pickles = loader != FROM_CODE
    needed = {
        "SLUICE_ALLOW_PICKLE=true": pickles and not options.allow_pickle,
        "SLUICE_ALLOW_MODEL_CODE=true": code and not options.allow_code,
    }
    if missing := [name for name, is_missing in needed.items() if is_missing]:
        raise NotLoadableError(
            f"MLflow loads it by {str(loader)[:80]}, which runs code of the model. Set {' and '.join(missing)} where "
            "you trust all who can write to the repository"
        )


def _declared(files: ModelFiles) -> Schema:
    """Of the configuration: columns where each has one dimension, else tensors."""
    if not files.inputs:
        raise NotLoadableError(
            "it has no signature. Log it with one (mlflow.models.infer_signature), or name its inputs in the "
            "configuration"
        )
    fields = tuple(
        Field(name=spec.name, kind=str(spec.datatype), datatype=spec.datatype, shape=spec.shape)
        for spec in files.inputs
    )
    return Schema(fields=fields, table=all(len(spec.shape) == 1 for spec in files.inputs))
