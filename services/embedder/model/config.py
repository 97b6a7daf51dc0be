"""How to load and run an embedding model."""

from dataclasses import dataclass

from services.embedder.model import openvino
from services.embedder.model.hardware import Backend, Device, Dtype

__all__ = ["BUNDLED_MODEL", "ModelConfig"]

BUNDLED_MODEL = "all-MiniLM-L6-v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """How to load and run a model. Zero means: choose for this machine."""

    name: str = BUNDLED_MODEL  # a name on the Hugging Face Hub, a folder, or the bundled model
    revision: str | None = None  # of a model on the Hub
    device: Device = Device.AUTO
    backend: Backend = Backend.AUTO
    dtype: Dtype = Dtype.AUTO
    threads: int = 0  # on a CPU, for the whole process; 0: the CPUs this container may use
    batch_tokens: int = 0  # rows x longest row of one forward pass; 0: 512 a CPU thread, 32,768 elsewhere
    batch_rows: int = 256
    max_tokens: int = 0  # texts are cut here; 0, or more than the model takes: the model's own limit
    least_cosine: float = openvino.LEAST_COSINE  # between vectors of OpenVINO and PyTorch
