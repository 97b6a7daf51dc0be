"""Columns of a request as a table, as MLflow gives one to a model."""

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from pydantic import JsonValue

from services.predictor.frameworks.base import Array, Arrays, InvalidInputError, LoadedModel, NotLoadableError
from services.predictor.frameworks.mlflow.mlmodel import Schema
from services.predictor.frameworks.rows import INPUT

__all__ = ["ColumnsModel", "frame", "texts"]

NUMBERS: Final = frozenset({"boolean", "integer", "long", "float", "double"})


class ColumnsModel:
    """A model of rows whose inputs are the columns of its signature, each of one dimension."""

    def __init__(self, model: LoadedModel, schema: Schema, *, framed: bool) -> None:
        """`framed`: the model takes a table of pandas too, and knows its columns by name."""
        self._model = model
        self._schema = schema
        self._framed = framed and find_spec("pandas") is not None
        others = [each for each in schema.fields if each.kind not in NUMBERS]
        if others and not self._framed:
            need = "the package pandas, which is not installed here" if framed else "numbers alone"
            raise NotLoadableError(f"its column '{others[0].name}' is of the type {others[0].kind}: it needs {need}")
        self.signature = replace(
            model.signature, inputs=schema.specs(INPUT), strict=True, rows=True, optional=schema.optional
        )

    def predict(self, inputs: Arrays, outputs: tuple[str, ...], parameters: Mapping[str, JsonValue]) -> Arrays:
        rows = frame(inputs, self._schema) if self._framed else _matrix(inputs, self._schema)
        return self._model.predict({INPUT: rows}, outputs, parameters)

    def close(self) -> None:
        self._model.close()


def frame(inputs: Arrays, schema: Schema) -> Any:
    """A DataFrame of pandas, in the order of the signature. Columns that a request left out are missing in it."""
    import pandas

    _check_lengths(inputs)
    columns: dict[str, Any] = {}
    for each in schema.fields:
        name = each.name or INPUT
        if name not in inputs:
            continue
        array = inputs[name]
        if each.kind == "datetime":
            try:
                columns[name] = pandas.to_datetime(texts(array))
            except ValueError as error:
                raise InvalidInputError(f"the input '{name}' is not a time of ISO 8601: {error}") from None
        elif each.kind == "binary" or array.dtype.kind != "O":
            columns[name] = array
        else:
            columns[name] = texts(array)
    return pandas.DataFrame(columns)


def _matrix(inputs: Arrays, schema: Schema) -> Array:
    _check_lengths(inputs)
    length = next(iter(inputs.values())).shape[0]
    missing = np.full(length, np.nan)
    return np.column_stack([inputs.get(each.name or INPUT, missing) for each in schema.fields])


def _check_lengths(inputs: Arrays) -> None:
    lengths = {name: array.shape[0] for name, array in inputs.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInputError(f"its columns differ in their length: {lengths}")
    if not lengths:
        raise InvalidInputError("it takes one column at least")


def texts(array: Array) -> Array:
    """Elements of BYTES as texts, in an array of objects."""
    made = np.empty(array.shape, dtype=object)
    made.reshape(-1)[:] = [element.decode("utf-8", "replace") for element in array.reshape(-1).tolist()]
    return made
