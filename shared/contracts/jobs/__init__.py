"""Jobs on the wire: what is asked for, and how far it is."""

from shared.contracts.jobs.facts import CodeVersion, DataVersion, RunFacts
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
from shared.contracts.jobs.kinds.bandit import BanditSpec
from shared.contracts.jobs.kinds.batch import BatchSpec, Endpoint
from shared.contracts.jobs.kinds.canary import CanarySpec
from shared.contracts.jobs.kinds.command import CommandSpec, Executor, Resources, Toleration
from shared.contracts.jobs.kinds.dataset import DatasetSpec
from shared.contracts.jobs.kinds.delete import DeleteSpec
from shared.contracts.jobs.kinds.drop import DropSpec
from shared.contracts.jobs.kinds.evaluate import EvaluateSpec
from shared.contracts.jobs.kinds.generate_questions import GenerateQuestionsSpec
from shared.contracts.jobs.kinds.ingest import DocumentRef, FolderSource, IngestSpec, S3Source
from shared.contracts.jobs.kinds.permit import PermitSpec
from shared.contracts.jobs.kinds.pipeline import PipelineSpec, PipelineStep
from shared.contracts.jobs.kinds.promote import PromoteSpec
from shared.contracts.jobs.kinds.reindex import ReindexSpec
from shared.contracts.jobs.kinds.sweep import SearchSpace, SweepSpec, TrialSetting
from shared.contracts.jobs.kinds.switch import SwitchSpec
from shared.contracts.jobs.kinds.train import Loss, TrainSpec
from shared.contracts.jobs.kinds.tune import ChunkSize, TuneSpec
from shared.contracts.jobs.spec import JobSpec, RetryPolicy
from shared.contracts.jobs.specs import KINDS, AnyJobSpec, decode_spec, may_hold_feedback

__all__ = [
    "KINDS",
    "AnyJobSpec",
    "BanditSpec",
    "BatchSpec",
    "CanarySpec",
    "ChunkSize",
    "CodeVersion",
    "CommandSpec",
    "DataVersion",
    "DatasetSpec",
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
    "Loss",
    "PermitSpec",
    "PipelineSpec",
    "PipelineStep",
    "Priority",
    "PromoteSpec",
    "ReindexSpec",
    "Resources",
    "RetryPolicy",
    "RunFacts",
    "S3Source",
    "SearchSpace",
    "SweepSpec",
    "SwitchSpec",
    "Toleration",
    "TrainSpec",
    "TrialSetting",
    "TuneSpec",
    "check_ids",
    "decode_spec",
    "job_id",
    "may_hold_feedback",
]
