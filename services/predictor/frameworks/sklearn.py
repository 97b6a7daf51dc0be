"""Models of scikit-learn, kept by skops: it makes only objects of types that are known or trusted.

Pickles run whatever code is in them, so they are loaded only where a setting says so.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
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
from services.predictor.frameworks.rows import INPUT, table_signature
from shared.contracts.tensors import Datatype, TensorSpec

__all__ = ["SklearnFramework", "SklearnModel"]

METHODS: Final = ("predict", "predict_proba", "decision_function", "transform")
"""Methods of an estimator that are outputs; the first that it has is given where a request names none."""

MOST_TIMES: Final = 50
LEAST_UNPACKED: Final = 64 * 2**20
"""A skops file unpacks to so many times its size at most, or to so many bytes."""

PICKLES: Final = (".joblib", ".pkl", ".pickle")


class SklearnFramework:
    name = "sklearn"
    platform = "sklearn"
    files = ("model.skops", "*.skops", "model.joblib", "model.pkl", "model.pickle")

    def prepare(self) -> None:
        package("sklearn", "scikit-learn", "scikit-learn")
        package("skops.io", "skops", "scikit-learn")

    def load(self, files: ModelFiles, options: FrameworkOptions) -> "SklearnModel":
        return SklearnModel(_read(files, options), files)


class SklearnModel:
    """An estimator. A row of texts is one text: that of the only column, or of a tensor with one dimension."""

    def __init__(self, estimator: Any, files: ModelFiles) -> None:
        self._estimator = estimator
        methods = tuple(name for name in METHODS if callable(getattr(estimator, name, None)))
        if not methods:
            raise NotLoadableError(f"a {type(estimator).__name__} has none of the methods {', '.join(METHODS)}")
        columns = int(getattr(estimator, "n_features_in_", -1))
        self._takes_texts = columns == -1
        signature = table_signature(
            files.inputs,
            files.outputs,
            [_output(estimator, name) for name in methods],
            columns=columns,
            datatype=Datatype.BYTES if self._takes_texts else Datatype.FP64,
            default_outputs=methods[:1],
        )
        if self._takes_texts and not files.inputs:
            any_shape = (TensorSpec(name=INPUT, datatype=Datatype.BYTES, shape=()),)
            signature = Signature(
                inputs=any_shape,
                outputs=signature.outputs,
                rows=True,
                strict=False,
                default_outputs=signature.default_outputs,
            )
        self.signature = signature

    def predict(self, inputs: Arrays, outputs: tuple[str, ...], _: Mapping[str, JsonValue]) -> Arrays:
        rows = self._rows(inputs)
        # What splits texts finds no methods of texts in numbers.
        with refusing(ValueError, TypeError, *((AttributeError,) if self._takes_texts else ())):
            return {name: _plain(getattr(self._estimator, name)(rows)) for name in outputs}

    def close(self) -> None:
        self._estimator = None

    def _rows(self, inputs: Arrays) -> Any:
        (array,) = inputs.values()
        # A table of pandas is taken as it is.
        if not isinstance(array, np.ndarray) or array.dtype.kind != "O":
            return array
        texts = [element.decode("utf-8", "replace") for element in array.reshape(-1).tolist()]
        if array.ndim == 1 or (self._takes_texts and array.shape[1:] == (1,)):
            return texts
        return np.array(texts, dtype=object).reshape(array.shape)


def _read(files: ModelFiles, options: FrameworkOptions) -> Any:
    if files.file.suffix in PICKLES:
        if not options.allow_pickle:
            raise NotLoadableError(
                f"{files.file.name} is a pickle, which runs whatever code is in it. Save the model with skops, or set "
                "SLUICE_ALLOW_PICKLE=true where you trust all who can write to the repository"
            )
        import joblib

        return joblib.load(files.file)
    import skops.io

    _check_size(files.file)
    untrusted = sorted(set(skops.io.get_untrusted_types(file=files.file)) - set(options.trusted_types))
    if untrusted:
        raise NotLoadableError(
            f"{files.file.name} holds types that are not known to be harmless: {', '.join(untrusted[:10])}. Name them "
            "in SLUICE_TRUSTED_TYPES where you trust them"
        )
    return skops.io.load(files.file, trusted=list(options.trusted_types))


def _check_size(file: Path) -> None:
    """Raises NotLoadableError for an archive that is small and becomes large in memory."""
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max(LEAST_UNPACKED, MOST_TIMES * file.stat().st_size):
        raise NotLoadableError(
            f"{file.name} unpacks to {unpacked / 2**20:,.0f} MiB, more than {MOST_TIMES} times its size: no model does"
        )


def _output(estimator: Any, method: str) -> TensorSpec:
    classes = getattr(estimator, "classes_", None)
    count = len(classes) if isinstance(classes, np.ndarray) and classes.ndim == 1 else None
    if method == "predict":
        labels = classes if count is not None else None
        return TensorSpec(name=method, datatype=_label_type(labels), shape=(-1,))
    one_column = method == "decision_function" and count == 2
    return TensorSpec(name=method, datatype=Datatype.FP64, shape=(-1,) if one_column else (-1, count or -1))


def _label_type(labels: Array | None) -> Datatype:
    if labels is None:
        return Datatype.FP64
    return {"i": Datatype.INT64, "u": Datatype.INT64, "b": Datatype.BOOL, "f": Datatype.FP64}.get(
        labels.dtype.kind, Datatype.BYTES
    )


def _plain(made: Any) -> Array:
    """A sparse matrix, or a list, as an array."""
    return np.asarray(made.toarray() if hasattr(made, "toarray") else made)
