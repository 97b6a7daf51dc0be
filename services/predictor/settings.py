"""Settings of the predictor."""

from pathlib import Path

from pydantic import Field

from services.predictor.frameworks.base import FrameworkOptions
from shared.service.settings import ServiceSettings

__all__ = ["PredictorSettings"]


class PredictorSettings(ServiceSettings):
    model_repository: str = Field(
        "", description="Folder of models, one folder each, or a bucket: s3://bucket/prefix. See docs/inference.md."
    )
    predictor_bucket_seconds: float = Field(30.0, gt=0, description="Seconds between looks at a bucket of models.")
    predictor_variant: str = Field("default", description="Variant of the stage predict that this process serves.")
    predictor_room: int = Field(64, ge=1, description="Requests in work at once.")
    predictor_batch_room: int = Field(16, ge=1, description="Requests of the batch lane in work at once.")
    predictor_poll_seconds: float = Field(1.0, gt=0, description="Seconds between looks at the model repository.")
    predictor_memory_mb: int = Field(
        2048, ge=1, description="MiB that loaded models may take; the least recently used are unloaded."
    )
    predictor_models: int = Field(100, ge=1, description="Models that may be loaded at once.")
    predictor_loads: int = Field(2, ge=1, description="Models that are being loaded at once.")
    predictor_threads: int = Field(0, ge=0, description="Calls of models at once; 0: twice the CPUs.")
    predictor_model_threads: int = Field(0, ge=0, description="CPU threads of one call; 0: all CPUs.")
    predictor_batch_size: int = Field(
        32, ge=0, description="Rows of one call of a model that takes batches and names no size itself; 0: no batches."
    )
    predictor_retry_seconds: float = Field(
        5.0, gt=0, description="Seconds until a model that did not load is tried again; they double each time."
    )
    max_tensor_bytes: int = Field(32 * 2**20, ge=1, description="Bytes of the tensors of one request or response.")
    allow_pickle: bool = Field(
        False, description="Load models that are, or hold, pickles. They run whatever code is in them."
    )
    allow_model_code: bool = Field(False, description="Load models that are, or come with, a Python class (model.py).")
    trusted_types: str = Field(
        "", description="Types besides those of scikit-learn, NumPy and SciPy that a skops file may hold, with commas."
    )

    @property
    def framework_options(self) -> FrameworkOptions:
        return FrameworkOptions(
            threads=self.predictor_model_threads,
            allow_pickle=self.allow_pickle,
            allow_code=self.allow_model_code,
            trusted_types=tuple(name for part in self.trusted_types.split(",") if (name := part.strip())),
        )

    @property
    def copy_folder(self) -> Path:
        """Where models of a bucket are copied to."""
        return self.data_dir / "repository"
