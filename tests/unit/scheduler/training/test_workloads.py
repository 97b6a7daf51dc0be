"""A training in a cluster: what is written is valid, and holds no secret."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from services.scheduler.commands.kubernetes.manifest import job_manifest, service_manifest
from services.scheduler.commands.kubernetes.operators import ray_job_manifest, train_job_manifest
from services.scheduler.settings import SchedulerSettings
from services.scheduler.training.program import cluster_program, order_of
from shared.contracts.jobs import Job, JobOptions, Resources, Toleration, TrainSpec
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.training import ORDER, TrainingOrder

SCHEMAS = Path(__file__).parent
SECRET = "p4ssw0rd"


def settings(**members: Any) -> SchedulerSettings:
    given: dict[str, Any] = {
        "training_image": "sluice/trainer:1",
        "training_queue": "teams",
        "nats_url": "nats://nats:4222",
        "nats_user": "scheduler",
        "nats_password": SECRET,
    }
    return SchedulerSettings(**(given | members))


def spec(**members: Any) -> TrainSpec:
    given: dict[str, Any] = {
        "target": "embedder",
        "dataset": "d1",
        "processes": 3,
        "batch": 24,
        "resources": Resources(cpu="4", memory="16Gi", gpus=1),
        "node_selector": {"gpu": "yes"},
        "tolerations": (Toleration(key="gpu", operator="Exists"),),
    }
    return TrainSpec(**(given | members))


JOB = Job(id="j1", kind="train", tenant="t", created_at=0.0, attempt=1, options=JobOptions(by="ann"))


def written(manifest: Any, **members: Any) -> dict[str, Any]:
    program = cluster_program(order_of(JOB, spec(**members), "", local=False), settings())
    made: dict[str, Any] = manifest(
        "sluice-j1-1", JOB, program, settings(), facts={"SLUICE_JOB": "j1", "SLUICE_TENANT": "t"}, remaining=90.0
    )
    assert SECRET not in json.dumps(made)
    return made


def schema(name: str) -> Any:
    return yaml.safe_load((SCHEMAS / f"{name}.yaml").read_text())


def as_pod(template: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", **template["metadata"]},
        "spec": template["spec"],
    }


def test_an_indexed_job_has_a_service_by_which_its_pods_find_each_other() -> None:
    job = written(job_manifest)
    kubernetes_validate.validate(job, "1.34", strict=True)
    pod = job["spec"]["template"]["spec"]
    assert (job["spec"]["completionMode"], job["spec"]["completions"], job["spec"]["parallelism"]) == ("Indexed", 3, 3)
    (container,) = pod["containers"]
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    assert env["SLUICE_JOB_HOST"] == "sluice-j1-1-0.sluice-j1-1"
    assert (env["SLUICE_TRAINING_NODES"], env["SLUICE_NATS_USER"]) == ("3", "trainer")
    assert TrainingOrder.model_validate_json(env[ORDER]).spec == spec()
    assert pod["volumes"] == [{"name": "secret-0", "secret": {"secretName": "sluice-nats-trainer"}}]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "teams"
    assert job["metadata"]["labels"]["app.kubernetes.io/component"] == "training"
    service = service_manifest({**job, "metadata": {**job["metadata"], "uid": "u1"}})
    kubernetes_validate.validate(service, "1.34", strict=True)
    assert (service["metadata"]["name"], service["spec"]["clusterIP"]) == (pod["subdomain"], "None")
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": "sluice-j1-1"}


def test_one_pod_needs_no_service() -> None:
    job = written(job_manifest, processes=1)
    assert "subdomain" not in job["spec"]["template"]["spec"]
    assert "completionMode" not in job["spec"]


@pytest.mark.parametrize("processes", [1, 3])
def test_a_train_job_is_what_kubeflow_trainer_takes(processes: int) -> None:
    made = written(train_job_manifest, processes=processes)
    jsonschema.validate(made, schema("trainjob"))
    trainer = made["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"], trainer["image"]) == (processes, 1, "sluice/trainer:1")
    assert trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "1"
    (patch,) = made["spec"]["runtimePatches"]
    (node,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    assert (pod["nodeSelector"], pod["volumes"][0]["secret"]["secretName"]) == ({"gpu": "yes"}, "sluice-nats-trainer")
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "teams"


@pytest.mark.parametrize("processes", [1, 3])
def test_a_ray_job_is_what_kuberay_takes(processes: int) -> None:
    made = written(ray_job_manifest, processes=processes)
    jsonschema.validate(made, schema("rayjob"))
    cluster = made["spec"]["rayClusterSpec"]
    kubernetes_validate.validate(as_pod(cluster["headGroupSpec"]["template"]), "1.34", strict=True)
    workers = cluster.get("workerGroupSpecs", [])
    assert [group["replicas"] for group in workers] == [processes - 1] * (processes > 1)
    for group in workers:
        kubernetes_validate.validate(as_pod(group["template"]), "1.34", strict=True)


def test_a_schema_that_is_not_kept_to_is_noticed() -> None:
    made = written(train_job_manifest)
    made["spec"]["trainer"]["nodes"] = 3
    with pytest.raises(jsonschema.ValidationError, match="nodes"):
        jsonschema.validate(made, schema("trainjob"))


@pytest.mark.parametrize(
    ("base", "allowed", "taken"),
    [
        ("", "", ""),
        ("m-0123456789ab", "", "m-0123456789ab"),
        ("/models/bge", "/models", "/models/bge"),
        ("BAAI/bge-m3", "/models, BAAI/bge-m3", "BAAI/bge-m3"),
    ],
)
def test_a_base_is_one_of_the_store_or_allowed(base: str, allowed: str, taken: str) -> None:
    assert order_of(JOB, spec(base=base), allowed, local=False).base == taken


@pytest.mark.parametrize("base", ["/etc", "/models/../etc", "/models-of-others/x", "BAAI/bge-m3", "m-short", "models"])
def test_any_other_base_is_refused(base: str) -> None:
    with pytest.raises(Problem, match="SLUICE_TRAINING_BASES") as caught:
        order_of(JOB, spec(base=base), "/models", local=False)
    assert caught.value.kind is ProblemType.TRAINING_REFUSED


@pytest.mark.parametrize(
    ("teacher", "allowed", "taken"),
    [
        ("m-0123456789ab", "", "m-0123456789ab"),
        ("/models/minilm", "/models", "/models/minilm"),
        ("cross-encoder/x", "cross-encoder/x", "cross-encoder/x"),
    ],
)
def test_a_teacher_is_one_of_the_store_or_allowed(teacher: str, allowed: str, taken: str) -> None:
    assert order_of(JOB, spec(teacher=teacher), allowed, local=False).teacher == taken


@pytest.mark.parametrize("teacher", ["/etc", "BAAI/bge-reranker-base", "m-short"])
def test_any_other_teacher_is_refused(teacher: str) -> None:
    with pytest.raises(Problem, match=r"may not learn from .* SLUICE_TRAINING_BASES") as caught:
        order_of(JOB, spec(teacher=teacher), "/models", local=False)
    assert caught.value.kind is ProblemType.TRAINING_REFUSED


def test_a_link_out_of_an_allowed_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "link").symlink_to("/etc")
    with pytest.raises(Problem):
        order_of(JOB, spec(base=str(tmp_path / "models" / "link")), str(tmp_path / "models"), local=True)
