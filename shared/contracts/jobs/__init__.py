"""Jobs on the wire: what is asked for, and how far it is."""

from shared.contracts.jobs.job import (
    DocumentError,
    ItemWarning,
    Job,
    JobOptions,
    JobProgress,
    JobState,
    Priority,
    check_ids,
    job_id,
)
from shared.contracts.jobs.kinds.batch import BatchSpec, Endpoint
from shared.contracts.jobs.kinds.command import CommandSpec, Executor, Resources, Toleration
from shared.contracts.jobs.kinds.delete import DeleteSpec
from shared.contracts.jobs.kinds.drop import DropSpec
from shared.contracts.jobs.kinds.evaluate import EvaluateSpec
from shared.contracts.jobs.kinds.generate_questions import GenerateQuestionsSpec
from shared.contracts.jobs.kinds.ingest import DocumentRef, FolderSource, IngestSpec, S3Source
from shared.contracts.jobs.kinds.permit import PermitSpec
from shared.contracts.jobs.kinds.pipeline import PipelineSpec, PipelineStep
from shared.contracts.jobs.kinds.reindex import ReindexSpec
from shared.contracts.jobs.kinds.switch import SwitchSpec
from shared.contracts.jobs.kinds.tune import ChunkSize, TuneSpec
from shared.contracts.jobs.spec import JobSpec, RetryPolicy
from shared.contracts.jobs.specs import KINDS, AnyJobSpec, decode_spec

__all__ = [
    "KINDS",
    "AnyJobSpec",
    "BatchSpec",
    "ChunkSize",
    "CommandSpec",
    "DeleteSpec",
    "DocumentError",
    "DocumentRef",
    "DropSpec",
    "Endpoint",
    "EvaluateSpec",
    "Executor",
    "FolderSource",
    "GenerateQuestionsSpec",
    "IngestSpec",
    "ItemWarning",
    "Job",
    "JobOptions",
    "JobProgress",
    "JobSpec",
    "JobState",
    "PermitSpec",
    "PipelineSpec",
    "PipelineStep",
    "Priority",
    "ReindexSpec",
    "Resources",
    "RetryPolicy",
    "S3Source",
    "SwitchSpec",
    "Toleration",
    "TuneSpec",
    "check_ids",
    "decode_spec",
    "job_id",
]
