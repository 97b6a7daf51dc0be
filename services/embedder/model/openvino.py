"""OpenVINO computes the transformer of a loaded model: on x86 CPUs twice to four times as fast as PyTorch.

Only the transformer is replaced. Tokenizer, prompts, the cut, pooling and whatever a model has after it stay those of
sentence-transformers, so that a vector or a score means the same with either backend.
"""

import inspect
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from services.embedder.model.hardware import Dtype

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch
    from sentence_transformers import CrossEncoder, SentenceTransformer

__all__ = [
    "PRECISIONS",
    "NotConvertibleError",
    "accelerate",
    "accelerate_cross_encoder",
    "compile_program",
    "import_package",
    "installed",
]

PRECISIONS: Final = {Dtype.FLOAT32: "f32", Dtype.BFLOAT16: "bf16"}

LEAST_COSINE: Final = 0.999
"""Between vectors of the two backends, in any number format: what is below is not the same model."""

LARGEST_DIFFERENCE: Final = 0.01
"""Between scores of a cross-encoder, 0 to 1, of the two backends."""

CACHED_SHAPES: Final = 1024
"""Programs that OpenVINO keeps for shapes of batches, the last used ones."""

PROBES: Final = ("short", "A sentence of some length, to be padded or not.", "Many words of a long text. " * 40)


class NotConvertibleError(Exception):
    """OpenVINO cannot compute this model, or not with the same results."""


def installed() -> bool:
    return find_spec("openvino") is not None


def compile_program(program: Any, *, dtype: Dtype, threads: int) -> Any:
    """An `openvino.InferRequest` for a model of OpenVINO's on the CPU; it computes one pass at a time."""
    hints = {
        "PERFORMANCE_HINT": "LATENCY",  # one pass at a time, with all threads
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
        "ENABLE_CPU_PINNING": False,  # whose first CPUs another process has pinned as well
        "CPU_RUNTIME_CACHE_CAPACITY": CACHED_SHAPES,
    }
    return import_package().Core().compile_model(program, "CPU", hints).create_infer_request()


def accelerate(model: "SentenceTransformer", *, dtype: Dtype, threads: int, least_cosine: float = LEAST_COSINE) -> None:
    """Replace the transformer of a model that is loaded in float32; takes a second or two for a small one.

    The model afterwards makes one forward pass at a time. Raises NotConvertibleError and leaves the model as it was
    where it has no such transformer, where the conversion fails, or where vectors of some texts differ.
    """

    def check(expected: "npt.NDArray[np.float32]", found: "npt.NDArray[np.float32]") -> None:
        least = float((found * expected).sum(1).min())
        if not least >= least_cosine:
            raise NotConvertibleError(f"OpenVINO's vectors differ from PyTorch's: cosine {least:.4f}")

    _accelerate(model, _HIDDEN_STATES, list(PROBES[:2]), dtype, threads, lambda: _vectors(model), check)


def accelerate_cross_encoder(model: "CrossEncoder", *, dtype: Dtype, threads: int) -> None:
    """As `accelerate`, for a cross-encoder that scores a pair with one forward pass; its scores are compared."""

    def check(expected: "npt.NDArray[np.float32]", found: "npt.NDArray[np.float32]") -> None:
        largest = float(np.abs(found - expected).max())
        if not largest <= LARGEST_DIFFERENCE:
            raise NotConvertibleError(f"OpenVINO's scores differ from PyTorch's by {largest:.4f}")

    pairs = [(PROBES[0], text) for text in PROBES]
    _accelerate(model, _method_outputs(model), pairs[:2], dtype, threads, lambda: _scores(model, pairs), check)


def _accelerate(
    model: "SentenceTransformer | CrossEncoder",
    modality: dict[str, str],
    example: list[Any],
    dtype: Dtype,
    threads: int,
    probe: "Callable[[], npt.NDArray[np.float32]]",
    check: "Callable[[npt.NDArray[np.float32], npt.NDArray[np.float32]], None]",
) -> None:
    """Replace the transformer, and put it back where `check` raises for what `probe` gives before and after."""
    from sentence_transformers.base.modules import Transformer

    if dtype not in PRECISIONS or not installed():
        raise NotConvertibleError(f"it needs the package openvino, and one of the formats {', '.join(PRECISIONS)}")
    first = model[0]
    if not isinstance(first, Transformer) or first.modality_config.get("text") != modality:
        raise NotConvertibleError("its first part is no transformer that makes a vector of each token")
    original, expected = first.model, probe()
    output = modality["method_output_name"]
    try:
        first.model = _compiled(original, _example(model, original, example), output, dtype, threads)
        check(expected, probe())
    except NotConvertibleError:
        first.model = original
        raise
    except Exception as error:  # tracing runs the model's own code, and OpenVINO's errors share no base
        first.model = original
        raise NotConvertibleError(f"OpenVINO cannot compute it: {error}") from error


def _scores(model: "CrossEncoder", pairs: list[tuple[str, str]]) -> "npt.NDArray[np.float32]":
    """Of pairs in one batch, and of one alone."""
    import torch

    found = [model.predict(some, activation_fn=torch.nn.Sigmoid()) for some in (pairs, pairs[1:2])]
    return np.concatenate(found)


def _vectors(model: "SentenceTransformer") -> "npt.NDArray[np.float32]":
    """Texts in one batch, and one alone: a shape that tracing took for a constant shows as another vector."""
    together = model.encode(list(PROBES), normalize_embeddings=True)
    return np.vstack([together, model.encode([PROBES[1]], normalize_embeddings=True)])


_HIDDEN_STATES: Final = {"method": "forward", "method_output_name": "last_hidden_state"}
_LOGITS: Final = {"method": "forward", "method_output_name": "logits"}


def _method_outputs(model: "CrossEncoder") -> dict[str, str]:
    """What the first part of a cross-encoder makes: scores, or the states that a later part makes them of."""
    config = getattr(model[0], "modality_config", {}).get("text")
    return _HIDDEN_STATES if config == _HIDDEN_STATES else _LOGITS


def _example(
    model: "SentenceTransformer | CrossEncoder", transformer: "torch.nn.Module", texts: list[Any]
) -> "dict[str, torch.Tensor]":
    """Inputs of the transformer for some padded rows."""
    import torch

    takes = inspect.signature(transformer.forward).parameters
    features = model.preprocess(texts)
    return {name: value for name, value in features.items() if isinstance(value, torch.Tensor) and name in takes}


def _compiled(
    transformer: "torch.nn.Module", example: "dict[str, torch.Tensor]", output: str, dtype: Dtype, threads: int
) -> "torch.nn.Module":
    """A module that takes and returns what the transformer does, for any number of rows and tokens."""
    import torch

    openvino = import_package()
    names = list(example)

    class Traced(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = transformer

        def forward(self, *values: torch.Tensor) -> torch.Tensor:
            named = dict(zip(names, values, strict=True))
            made: torch.Tensor = getattr(self.transformer(**named, return_dict=True), output)
            return made

    program = _converted(openvino, Traced().eval(), tuple(example.values()))
    request = compile_program(program, dtype=dtype, threads=threads)

    class Compiled(torch.nn.Module):
        def __init__(self, config: Any) -> None:
            super().__init__()
            self.config = config
            self.device = torch.device("cpu")

        def forward(self, **features: Any) -> dict[str, torch.Tensor]:
            found = request.infer([features[name].numpy() for name in names], share_inputs=True)
            return {output: torch.from_numpy(found[0])}

    return Compiled(transformer.config)


def _converted(openvino: Any, module: "torch.nn.Module", example: "tuple[torch.Tensor, ...]") -> Any:
    """The traced module as OpenVINO's model, whose inputs are rows x tokens of any size."""
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with torch.no_grad(), _quiet():
        decoder = TorchScriptPythonDecoder(module, example_input=example)
    frontend = FrontEndManager().load_by_framework("pytorch")
    program = frontend.convert(frontend.load(decoder))
    for port in program.inputs:
        port.get_node().set_partial_shape(openvino.PartialShape([-1, -1]))
    program.validate_nodes_and_infer_types()
    return program


def import_package() -> Any:
    """The package, without the one that reports conversions to its makers: it goes on with a stub in its place."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@contextmanager
def _quiet() -> Iterator[None]:
    """Tracing warns of each branch in Python; whether one mattered shows when the vectors are compared."""
    transformers = logging.getLogger("transformers")
    level = transformers.level
    transformers.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.setLevel(level)
