"""The program of a training: what to run, with what in its environment. Pure functions but for looks at folders."""

import os
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Final

from services.scheduler.commands.program import Program, SecretFiles
from services.scheduler.settings import SchedulerSettings
from shared.contracts.jobs import Job, TrainSpec
from shared.contracts.models import MODEL_NAME
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.training import NODES, ORDER, TrainingOrder

__all__ = ["MODULE", "check_base", "check_teacher", "cluster_program", "local_program", "order_of"]

MODULE: Final = ("-P", "-m", "services.trainer")

ROLE: Final = "trainer"
"""The trainer's own role on the broker."""

CREDENTIAL: Final = "/run/sluice/broker"
AUTHORITY: Final = "/run/sluice/ca"
"""Folders of a Pod's container."""

PASSED_ON: Final = (
    *("OMP_", "MKL_", "OPENBLAS_", "TOKENIZERS_", "CUDA_", "NVIDIA_", "NCCL_", "GLOO_", "HIP_", "ROCR_", "PYTORCH_"),
    *("TORCH_", "HF_HOME", "HF_HUB_OFFLINE", "LD_LIBRARY_PATH", "SSL_CERT_"),
)
"""Beginnings of the names of variables that a training gets of the scheduler's own."""


def order_of(job: Job, spec: TrainSpec, bases: str, *, local: bool) -> TrainingOrder:
    """Raises Problem TRAINING_REFUSED for a base or a teacher that the settings do not allow."""
    base, teacher = check_base(spec.base, bases, local=local), check_teacher(spec.teacher, bases, local=local)
    return TrainingOrder(job=job.id, tenant=job.tenant, by=job.options.by, base=base, teacher=teacher, spec=spec)


def check_base(base: str, allowed: str, *, local: bool) -> str:
    """The base as the trainer is to take it. `allowed` are folders and names, separated by commas; `local` says that
    the folders are on this machine.

    Raises Problem TRAINING_REFUSED.
    """
    if (taken := _taken(base, allowed, local=local)) is not None:
        return taken
    raise Problem(
        ProblemType.TRAINING_REFUSED,
        f"Training may not begin with '{base[:200]}'. Name a model of the store (m-…), leave `base` out for the "
        "bundled model, or have the operator add it to SLUICE_TRAINING_BASES.",
    )


def check_teacher(teacher: str, allowed: str, *, local: bool) -> str:
    """The teacher as the trainer is to take it. As `check_base`."""
    if (taken := _taken(teacher, allowed, local=local)) is not None:
        return taken
    raise Problem(
        ProblemType.TRAINING_REFUSED,
        f"Training may not learn from '{teacher[:200]}'. Name a reranker of the store (m-…) as `teacher`, or have the "
        "operator add it to SLUICE_TRAINING_BASES.",
    )


def _taken(model: str, allowed: str, *, local: bool) -> str | None:
    """A model of the store, or one that is allowed; None for any other."""
    if not model or re.fullmatch(MODEL_NAME, model):
        return model
    known = [entry.strip() for entry in allowed.split(",") if entry.strip()]
    if model in known and not model.startswith("/"):
        return model
    if model.startswith("/"):
        path = Path(model).resolve() if local else Path(os.path.normpath(PurePosixPath(model)))
        for entry in known:
            if entry.startswith("/") and path.is_relative_to(Path(entry).resolve() if local else Path(entry)):
                return str(path)
    return None


def local_program(order: TrainingOrder, settings: SchedulerSettings) -> Program:
    """A process beside the scheduler. The password is in a file, or in the environment of the process: it stands in no
    argument and in no record of the job."""
    env = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    env.setdefault("HF_HUB_OFFLINE", "1")
    env |= {"PYTHONUNBUFFERED": "1", ORDER: order.model_dump_json(exclude_defaults=True)}
    env |= _broker(settings) | _limits(settings)
    if settings.training_memory_mb is not None:
        env["SLUICE_TRAINING_MEMORY_MB"] = str(settings.training_memory_mb)
    return Program(component="training", command=(sys.executable, *MODULE), env=env)


def cluster_program(order: TrainingOrder, settings: SchedulerSettings) -> Program:
    """Pods with the operator's image. They find the credential of the broker in a Secret, which they mount: the object
    that is written names it and does not hold it."""
    spec = order.spec
    env = {
        ORDER: order.model_dump_json(exclude_defaults=True),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "1"),
        "SLUICE_NATS_URL": settings.training_nats_url or settings.nats_url,
        "SLUICE_NATS_USER": settings.training_user or ROLE,
        "SLUICE_NATS_ROLE": ROLE,
        "SLUICE_NATS_PASSWORD_FILE": f"{CREDENTIAL}/password",
        **_limits(settings),
    }
    secrets = [SecretFiles(secret=settings.training_secret, folder=CREDENTIAL)]
    if settings.nats_ca is not None:
        secrets.append(SecretFiles(secret=settings.training_ca_secret, folder=AUTHORITY))
        env |= {
            "SLUICE_NATS_CA": f"{AUTHORITY}/ca.crt",
            "SLUICE_NATS_VERIFY_HOSTNAME": str(settings.nats_verify_hostname),
            "SLUICE_NATS_TLS_FIRST": str(settings.nats_tls_first),
        }
    if spec.processes > 1:
        env[NODES] = str(spec.processes)
    return Program(
        component="training",
        image=settings.training_image,
        command=("python", *MODULE),
        env=env,
        resources=spec.resources,
        node_selector=spec.node_selector,
        tolerations=spec.tolerations,
        completions=spec.processes,
        parallelism=spec.processes,
        ttl_seconds=spec.ttl_seconds,
        secrets=tuple(secrets),
        connected=spec.processes > 1,
        workloads=tuple(kind.value for kind in settings.training_workloads_in_order),
        runtime=settings.training_runtime,
        ray_entrypoint="python -P -m services.trainer.ray",
        queue=settings.training_queue,
    )


def _limits(settings: SchedulerSettings) -> dict[str, str]:
    limits = {
        "SLUICE_TRAINING_CHECKPOINT_MB": str(settings.training_checkpoint_mb),
        "SLUICE_TRAINING_PATIENCE": str(settings.training_patience),
    }
    if settings.training_templates is not None:
        limits["SLUICE_TRAINING_TEMPLATES"] = str(settings.training_templates)
    return limits


def _broker(settings: SchedulerSettings) -> dict[str, str]:
    """The address and the credential, as settings of the trainer's."""
    given: dict[str, object] = {
        "NATS_URL": settings.nats_url,
        "NATS_CA": settings.nats_ca,
        "NATS_CERT": settings.nats_cert,
        "NATS_KEY": settings.nats_key,
        "NATS_VERIFY_HOSTNAME": settings.nats_verify_hostname,
        "NATS_TLS_FIRST": settings.nats_tls_first,
    }
    if settings.training_user is not None:
        given |= {"NATS_USER": settings.training_user, "NATS_PASSWORD_FILE": settings.training_password_file}
    else:
        password = settings.nats_password
        given |= {
            "NATS_USER": settings.nats_user,
            "NATS_ROLE": settings.nats_role,
            "NATS_PASSWORD_FILE": settings.nats_password_file,
            "NATS_PASSWORD": password.get_secret_value() if password is not None else None,
        }
    return {
        f"SLUICE_{name}": str(value.absolute() if isinstance(value, Path) else value)
        for name, value in given.items()
        if value is not None
    }
