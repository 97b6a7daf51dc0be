"""Settings of the embedder."""

from pydantic import Field

from services.embedder.model.hardware import Backend, Device, Dtype
from services.embedder.model.model import BUNDLED_MODEL, ModelConfig
from shared.service.settings import ServiceSettings

__all__ = ["EmbedderSettings"]


class EmbedderSettings(ServiceSettings):
    embedding_model: str = Field(BUNDLED_MODEL, description="A model name, a folder, or the bundled model.")
    embedding_revision: str | None = Field(None, description="Revision of a model on the Hub.")
    embedding_variant: str = Field("default", description="Variant of the stage that this process serves.")
    device: Device = Field(Device.AUTO, description="auto, cpu, cuda or mps.")
    embedding_backend: Backend = Field(Backend.AUTO, description="auto, openvino (on a CPU) or torch.")
    dtype: Dtype = Field(Dtype.AUTO, description="auto, float32, bfloat16 or float16.")
    threads: int = Field(0, ge=0, description="CPU threads of one forward pass; 0: all that the container may use.")
    batch_tokens: int = Field(0, ge=0, description="Tokens of one forward pass, padding included; 0: by device.")
    batch_rows: int = Field(256, ge=1, description="Texts of one forward pass.")
    embedder_room: int = Field(64, ge=1, description="Queries in work at once.")
    embedder_batch_room: int = Field(
        16, ge=1, description="Messages with chunks in work at once; half of them make one call of the model."
    )

    @property
    def model(self) -> ModelConfig:
        return ModelConfig(
            name=self.embedding_model,
            revision=self.embedding_revision,
            device=self.device,
            backend=self.embedding_backend,
            dtype=self.dtype,
            threads=self.threads,
            batch_tokens=self.batch_tokens,
            batch_rows=self.batch_rows,
        )
