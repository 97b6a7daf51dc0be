"""Weights in safetensors, and beside them `model.py` with the module that they are for.

    import torch

    class Model(torch.nn.Module):
        def __init__(self, width: int = 8) -> None: ...
        def forward(self, input: torch.Tensor) -> torch.Tensor: ...

It is made with the arguments that the configuration names: `parameters: {arguments: {width: 16}}`. The configuration
also names the inputs, each a parameter of `forward`; their datatypes are those of the tensors that it gets.
"""

import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final

from pydantic import JsonValue

from services.predictor.frameworks.base import (
    Array,
    Arrays,
    FrameworkOptions,
    ModelFiles,
    NotLoadableError,
    Signature,
    refusing,
)
from services.predictor.frameworks.code import forget, imported
from services.predictor.frameworks.pytorch.tensors import dtype_of, output_names, release, to_numpy, to_torch

__all__ = ["ModuleModel"]

CODE: Final = "model.py"
CLASS: Final = "Model"


class ModuleModel:
    """Requests are joined where the configuration names a `max_batch_size`: then the first dimension of all tensors
    counts rows."""

    def __init__(self, files: ModelFiles, options: FrameworkOptions, device: Any) -> None:
        self._device = device
        self._code = imported(_code(files), files, options)
        try:
            self._module = _loaded(self._code, files, device)
            _check_inputs(self._module, files)
        except BaseException:
            forget(self._code)
            raise
        self.signature = Signature(inputs=files.inputs, outputs=files.outputs, rows=files.batches)
        self._dtypes = {spec.name: dtype_of(spec.datatype) for spec in files.inputs}

    def predict(self, inputs: Arrays, outputs: tuple[str, ...], _: Mapping[str, JsonValue]) -> Arrays:
        import torch

        given = {name: to_torch(name, inputs[name], dtype, self._device) for name, dtype in self._dtypes.items()}
        with torch.inference_mode(), refusing(ValueError, IndexError):
            made = self._module(**given)
        named = self._named(made)
        return {name: value for name, value in named.items() if not outputs or name in outputs}

    def close(self) -> None:
        release(self._module)
        self._module = None
        forget(self._code)

    def _named(self, made: Any) -> dict[str, Array]:
        if isinstance(made, Mapping):
            return {str(name): to_numpy(value) for name, value in made.items() if value is not None}
        several = made if isinstance(made, tuple | list) else (made,)
        declared = tuple(spec.name for spec in self.signature.outputs)
        names = declared if len(declared) == len(several) else output_names(len(several))
        return {name: to_numpy(value) for name, value in zip(names, several, strict=True)}


def _code(files: ModelFiles) -> Any:
    code = files.folder / CODE
    if not code.is_file():
        raise NotLoadableError(
            f"{files.file.name} has weights alone: put {CODE} beside it, with a class {CLASS} that is their module, or "
            "save the model by torch.export as model.pt2"
        )
    return code


def _loaded(code: ModuleType, files: ModelFiles, device: Any) -> Any:
    import torch
    from safetensors.torch import load_model

    made = getattr(code, CLASS, None)
    if not inspect.isclass(made) or not issubclass(made, torch.nn.Module):
        raise NotLoadableError(f"{CODE} has no class {CLASS} that is a torch.nn.Module")
    arguments = files.parameters.get("arguments") or {}
    if not isinstance(arguments, Mapping):
        raise NotLoadableError("the parameter `arguments` of the configuration is not a mapping")
    module: Any = made(**arguments)
    try:
        load_model(module, str(files.file), strict=True)
    except RuntimeError as error:
        raise NotLoadableError(f"{files.file.name} has other weights than the module: {error}") from None
    return module.to(device).eval()


def _check_inputs(module: Any, files: ModelFiles) -> None:
    takes = inspect.signature(module.forward).parameters
    if not files.inputs:
        raise NotLoadableError(
            "the configuration must name the inputs of the module, such as `inputs: [{name: "
            f"{next(iter(takes), 'input')}, datatype: FP32, shape: [-1, 4]}}]` in model.yaml"
        )
    if unknown := [spec.name for spec in files.inputs if spec.name not in takes]:
        raise NotLoadableError(f"{CLASS}.forward has no parameter '{unknown[0]}'; it has {', '.join(takes)}")
