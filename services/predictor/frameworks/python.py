"""A Python class of the user's: `model.py` with a class `Model`, whose annotations say what it takes and gives.

    from pathlib import Path
    import numpy as np
    from numpy.typing import NDArray

    class Model:
        def load(self, folder: Path) -> None: ...
        def predict(self, text: list[str], limit: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]: ...

`load` is called once, with the folder of the version, and `unload` at the end, where there is such a method. Each
parameter of `predict` is an input of its name: an array, or a list of texts or bytes. It returns one array or list, the
output `output`, or a mapping of names to them. A parameter named `parameters` gets those of the request. An exception
with a `status_code` of 400 says that the input is wrong. The file runs in the predictor's own process.
"""

import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final, get_args, get_origin, get_type_hints, is_typeddict

import numpy as np
from pydantic import JsonValue

from services.predictor.frameworks.base import (
    Array,
    Arrays,
    FrameworkOptions,
    InvalidInputError,
    ModelFiles,
    NotLoadableError,
    Signature,
)
from services.predictor.frameworks.code import forget, imported
from shared.contracts.tensors import Datatype, TensorSpec

__all__ = ["PythonFramework", "PythonModel"]

CLASS: Final = "Model"
OUTPUT: Final = "output"
PARAMETERS: Final = "parameters"
CALLERS_FAULT: Final = (400, 422)

DATATYPES: Final[Mapping[Any, Datatype]] = {
    np.bool_: Datatype.BOOL,
    np.uint8: Datatype.UINT8,
    np.uint16: Datatype.UINT16,
    np.uint32: Datatype.UINT32,
    np.uint64: Datatype.UINT64,
    np.int8: Datatype.INT8,
    np.int16: Datatype.INT16,
    np.int32: Datatype.INT32,
    np.int64: Datatype.INT64,
    np.float16: Datatype.FP16,
    np.float32: Datatype.FP32,
    np.float64: Datatype.FP64,
}


class PythonFramework:
    name = "python"
    platform = "python"
    files = ("model.py",)

    def prepare(self) -> None:
        """Nothing is needed."""

    def load(self, files: ModelFiles, options: FrameworkOptions) -> "PythonModel":
        module = imported(files.file, files, options)
        try:
            return PythonModel(_made(module, files), files, module)
        except BaseException:
            forget(module)
            raise


class PythonModel:
    """Requests are joined where the configuration names a `max_batch_size`: then the first dimension of all tensors
    counts rows."""

    def __init__(self, model: Any, files: ModelFiles, module: ModuleType) -> None:
        self._model = model
        self._module = module
        try:
            hints = get_type_hints(model.predict)
        except (NameError, TypeError, AttributeError) as error:
            raise NotLoadableError(f"the annotations of {CLASS}.predict cannot be read: {error}") from None
        returned = hints.pop("return", None)
        self._hints = {name: hint for name, hint in hints.items() if name != PARAMETERS}
        self._takes_parameters = PARAMETERS in hints
        own = inspect.signature(model.predict).parameters
        optional = frozenset(name for name in self._hints if own[name].default is not inspect.Parameter.empty)
        inputs = {spec.name: spec for spec in files.inputs}
        self.signature = Signature(
            inputs=tuple(inputs.get(name) or _input(name, hint) for name, hint in self._hints.items()),
            outputs=files.outputs or _outputs(returned),
            rows=files.batches,
            optional=optional,
        )
        if unknown := [name for name in inputs if name not in self._hints]:
            raise NotLoadableError(f"{CLASS}.predict has no annotated parameter '{unknown[0]}'")

    def predict(self, inputs: Arrays, outputs: tuple[str, ...], parameters: Mapping[str, JsonValue]) -> Arrays:
        given: dict[str, Any] = {name: _argument(array, self._hints[name]) for name, array in inputs.items()}
        if self._takes_parameters:
            given[PARAMETERS] = dict(parameters)
        try:
            made = self._model.predict(**given)
        except Exception as error:
            if getattr(error, "status_code", None) in CALLERS_FAULT:
                raise InvalidInputError(str(error)) from error
            raise
        named = made if isinstance(made, Mapping) else {OUTPUT: made}
        return {name: _array(value) for name, value in named.items() if not outputs or name in outputs}

    def close(self) -> None:
        unload = getattr(self._model, "unload", None)
        self._model = None
        forget(self._module)
        if callable(unload):
            unload()


def _made(module: ModuleType, files: ModelFiles) -> Any:
    made = getattr(module, CLASS, None)
    if not inspect.isclass(made) or not callable(getattr(made, "load", None)):
        raise NotLoadableError(f"{files.file.name} has no class {CLASS} with a method `load`")
    model: Any = made()
    model.load(files.folder)
    return model


def _input(name: str, hint: Any) -> TensorSpec:
    datatype = _datatype(hint)
    if datatype is None:
        raise NotLoadableError(
            f"the parameter '{name}' of {CLASS}.predict is annotated {hint}: write NDArray[np.float32] or another type "
            "of NumPy's, list[str] or list[bytes]"
        )
    return TensorSpec(name=name, datatype=datatype, shape=(-1,) if get_origin(hint) is list else ())


def _outputs(hint: Any) -> tuple[TensorSpec, ...]:
    """Those that the annotation names; none where only the model knows their names."""
    if is_typeddict(hint):
        named = get_type_hints(hint)
    elif get_origin(hint) is dict:
        return ()
    else:
        named = {OUTPUT: hint}
    found = [(name, _datatype(one), one) for name, one in named.items()]
    return tuple(
        TensorSpec(name=name, datatype=datatype, shape=(-1,) if get_origin(one) is list else ())
        for name, datatype, one in found
        if datatype is not None
    )


def _datatype(hint: Any) -> Datatype | None:
    """Of `list[str]`, `list[bytes]`, and `NDArray[np.float32]`, which is an `ndarray` of any shape and a `dtype`."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is list and args and args[0] in (str, bytes):
        return Datatype.BYTES
    if origin is np.ndarray and len(args) == 2 and get_origin(args[1]) is np.dtype:
        return DATATYPES.get(get_args(args[1])[0])
    return None


def _argument(array: Array, hint: Any) -> Any:
    if get_origin(hint) is not list:
        return array
    elements = array.reshape(-1).tolist()
    return elements if get_args(hint)[0] is bytes else [element.decode("utf-8", "replace") for element in elements]


def _array(value: Any) -> Array:
    if isinstance(value, list) and value and isinstance(value[0], str | bytes):
        array = np.empty(len(value), dtype=object)
        array[:] = value
        return array
    return np.asarray(value)
