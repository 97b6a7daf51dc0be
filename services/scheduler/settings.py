"""Settings of the scheduler."""

from pathlib import Path

from pydantic import Field

from services.scheduler.commands.settings import CommandSettings
from services.scheduler.drift.settings import DriftSettings
from services.scheduler.tracking.settings import TrackingSettings
from services.scheduler.training.settings import TrainingSettings
from shared.service.settings import ServiceSettings

__all__ = ["SchedulerSettings"]


class SchedulerSettings(ServiceSettings, CommandSettings, DriftSettings, TrackingSettings, TrainingSettings):
    job_room: int = Field(8, ge=1, description="Short jobs in work at once; a quarter is kept for high priority.")
    job_long_room: int = Field(32, ge=1, description="Long jobs in work at once: they mostly wait for others.")
    job_flow_room: int = Field(64, ge=1, description="Pipelines in work at once.")
    job_sweep_room: int = Field(64, ge=1, description="Sweeps in work at once.")
    job_spare: int = Field(
        16, ge=0, description="Further jobs of each of these sorts in work, each of a tenant that has none in work."
    )
    job_max_crashes: int = Field(5, ge=0, description="Workers that one job may outlive before it is a dead letter.")
    reader_workers: int = Field(2, ge=1, description="Processes that parse and chunk documents.")
    reader_spare: int = Field(
        2, ge=0, description="Further processes, which read for tenants of which nothing is being read."
    )
    reader_seconds: float = Field(60.0, gt=0, description="Seconds that reading one document may take.")
    reader_memory_mb: int = Field(1024, ge=64, description="Memory (MB) that reading one document may take.")
    documents_in_work: int = Field(16, ge=1, description="Documents of one job in work at once.")
    chunk_tokens: int = Field(256, ge=32, description="Longest chunk, in tokens of the embedding model.")
    chunk_overlap: int = Field(32, ge=0, description="Tokens that neighbouring chunks share.")
    tokenizer: Path | None = Field(None, description="tokenizer.json or model folder; none: the bundled model's.")
    embedding_model: str = Field("all-MiniLM-L6-v2", description="Name of the embedding model, to notice a change.")
    embedding_variant: str = Field("default", description="Variant of the stage `embed` that embeds documents.")
    keep_originals: bool = Field(True, description="Keep the bytes of documents, so that they can be indexed anew.")
    source_roots: str = Field(
        "",
        description="Folders and s3://bucket/prefix that jobs may ingest from, separated by commas; none: no source.",
    )
    source_endpoints: str = Field(
        "", description="URLs of S3-compatible stores that jobs may name, separated by commas."
    )
    embed_passages: int = Field(32, ge=1, le=256, description="Passages in one message to the embedder.")
    request_room: int = Field(64, ge=1, description="Requests to gateways at once, over all batches.")
    stage_seconds: float = Field(120.0, gt=0, description="Seconds to wait for a stage before asking again.")
    stage_tries: int = Field(5, ge=1, description="Times to ask a stage before the job is put back.")
