"""What the values of the chart do, what it refuses, and that it can be packaged."""

import json
import shutil
import tarfile
import tomllib
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.tools import AVAILABLE
from tests.harness.helm import CHART, VALUES, helm, refused, template
from tests.harness.manifests import SERVICES, Manifests
from tests.harness.paths import ROOT

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="no binary of Helm for this machine")

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
DIGEST = "sha256:" + "0123456789abcdef" * 4

CANARY = ("generator", "generator-canary")

Object = dict[str, Any]


def pod(manifests: Manifests, name: str) -> Object:
    kind = "StatefulSet" if name == "nats" else "Deployment"
    found: Object = manifests.get(kind, name, _namespace(manifests))["spec"]["template"]
    return found


def _namespace(manifests: Manifests) -> str:
    return str(manifests.of("StatefulSet")[0]["metadata"]["namespace"])


def container(manifests: Manifests, name: str) -> Object:
    found: Object = pod(manifests, name)["spec"]["containers"][0]
    return found


# The chart as a package


def test_the_chart_has_the_version_of_the_product() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == VERSION


def test_the_chart_passes_lint() -> None:
    done = helm("lint", CHART, "--strict")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", sorted(path.name for path in VALUES.iterdir()))
def test_every_file_of_values_passes_lint(file: str) -> None:
    done = helm("lint", CHART, "--strict", "--values", VALUES / file)
    assert done.returncode == 0, done.stdout


def test_the_chart_can_be_packaged_and_the_package_renders(tmp_path: Path) -> None:
    done = helm("package", CHART, "--destination", tmp_path)
    assert done.returncode == 0, done.stderr
    package = tmp_path / f"sluice-{VERSION}.tgz"
    with tarfile.open(package) as archive:
        assert {"sluice/Chart.yaml", "sluice/values.yaml", "sluice/values.schema.json"} <= set(archive.getnames())
    assert helm("template", "sluice", package).returncode == 0


# Images


def test_images_are_named_by_registry_and_digest_and_pulled_as_values_say() -> None:
    manifests = template(
        'imageRegistry="registry.example.com"',
        'imagePullPolicy="Always"',
        'imagePullSecrets=[{"name": "registry"}]',
        *(f'{name}.image.digest="{DIGEST}"' for name in (*SERVICES, "nats")),
    )
    for name in SERVICES:
        assert container(manifests, name)["image"] == f"registry.example.com/sluice/{name}@{DIGEST}"
    assert container(manifests, "nats")["image"] == f"nats@{DIGEST}"
    for name in (*SERVICES, "nats"):
        assert container(manifests, name)["imagePullPolicy"] == "Always"
        assert pod(manifests, name)["spec"]["imagePullSecrets"] == [{"name": "registry"}]


def test_a_tag_of_ones_own_comes_before_the_version_with_gpus_too() -> None:
    manifests = template("gpu.enabled=true", 'embedder.image.tag="0.2.0"')
    assert container(manifests, "embedder")["image"] == "sluice/embedder:0.2.0"
    assert container(manifests, "generator")["image"] == f"sluice/generator:{VERSION}-cuda"


def test_a_digest_that_is_none_is_refused() -> None:
    assert "digest" in refused('gateway.image.digest="latest"')


# Canaries


def test_a_canary_has_the_image_of_its_stage_or_one_of_its_own() -> None:
    stage = ("canary.generator.enabled=true", f'generator.image.digest="{DIGEST}"')
    assert container(template(*stage), "generator-canary")["image"] == f"sluice/generator@{DIGEST}"
    own = template(*stage, 'canary.generator.image.tag="0.2.0"')
    assert container(own, "generator-canary")["image"] == "sluice/generator:0.2.0"
    assert container(own, "generator")["image"] == f"sluice/generator@{DIGEST}"
    other = template(*stage, 'canary.generator.image.repository="mine/generator"')
    assert container(other, "generator-canary")["image"] == f"mine/generator:{VERSION}"


def test_the_settings_of_a_canary_come_before_those_of_its_stage_and_of_gpus() -> None:
    manifests = template(
        "canary.generator.enabled=true",
        "gpu.enabled=true",
        'generator.settings.SLUICE_GENERATE_ROOM="3"',
        'generator.extraEnv=[{"name": "A", "value": "a"}]',
        'canary.generator.settings={"SLUICE_VLLM_MODEL": "/models/new"}',
        'canary.generator.extraEnv=[{"name": "B", "value": "b"}]',
        'canary.generator.resources={"limits": {"memory": "7Gi"}}',
        "canary.generator.replicas=2",
    )
    env = {name: {e["name"]: e.get("value") for e in container(manifests, name)["env"]} for name in CANARY}
    assert [env[name]["SLUICE_GENERATOR_VARIANT"] for name in CANARY] == ["default", "canary"]
    assert env["generator-canary"]["SLUICE_VLLM_MODEL"] == "/models/new" != env["generator"]["SLUICE_VLLM_MODEL"]
    assert [env[name]["SLUICE_GENERATE_ROOM"] for name in CANARY] == ["3", "3"]
    assert [env[name].get("B") for name in CANARY] == [None, "b"]
    assert env["generator-canary"]["A"] == "a"
    assert container(manifests, "generator-canary")["resources"] == {"limits": {"memory": "7Gi"}}
    assert manifests.deployment("generator-canary")["spec"]["replicas"] == 2


# Settings and Pods


def test_a_setting_of_one_service_takes_the_place_of_the_charts_or_is_added() -> None:
    manifests = template('generator.settings={"SLUICE_ENGINE": "openai", "SLUICE_OPENAI_MODEL": "m"}')
    env = [(entry["name"], entry.get("value")) for entry in container(manifests, "generator")["env"]]
    assert len({name for name, _ in env}) == len(env)
    assert {("SLUICE_ENGINE", "openai"), ("SLUICE_OPENAI_MODEL", "m"), ("SLUICE_GRACE_SECONDS", "60")} <= set(env)


def test_a_setting_of_all_services_restarts_them() -> None:
    default, changed = template(), template('settings.SLUICE_LOG_LEVEL="DEBUG"')
    assert changed.get("ConfigMap", "sluice-settings")["data"]["SLUICE_LOG_LEVEL"] == "DEBUG"
    for name in SERVICES:
        before, after = (pod(each, name)["metadata"]["annotations"]["checksum/settings"] for each in (default, changed))
        assert before != after


def test_a_change_of_the_brokers_configuration_restarts_it_and_the_settings_follow() -> None:
    three, one = template(), template("nats.replicas=1")
    before, after = (pod(each, "nats")["metadata"]["annotations"]["checksum/config"] for each in (three, one))
    assert before != after
    assert one.get("ConfigMap", "sluice-settings")["data"]["SLUICE_REPLICAS"] == "1"


def test_variables_volumes_and_mounts_of_ones_own_are_added() -> None:
    manifests = template(
        'generator.extraEnv=[{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "hosted", "key": "key"}}}]',
        'generator.extraVolumes=[{"name": "models", "persistentVolumeClaim": {"claimName": "mine"}}]',
        'generator.extraVolumeMounts=[{"name": "models", "mountPath": "/models"}]',
    )
    own = container(manifests, "generator")
    assert own["env"][-1]["valueFrom"]["secretKeyRef"]["name"] == "hosted"
    assert own["volumeMounts"][-1] == {"name": "models", "mountPath": "/models"}
    assert pod(manifests, "generator")["spec"]["volumes"][-1]["name"] == "models"
    assert len(own["env"]) > 1 < len(own["volumeMounts"])


@pytest.mark.parametrize("name", [*SERVICES, "nats"])
def test_a_service_is_placed_as_its_values_say(name: str) -> None:
    placement = {
        "nodeSelector": {"pool": "a"},
        "tolerations": [{"key": "pool", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 2}],
        "priorityClassName": "mine",
    }
    values = [f"{name}.{key}={json.dumps(value)}" for key, value in placement.items()]
    values.append(f'{name}.podAnnotations={{"note": "a"}}')
    manifests = template(*values, f'{name}.podLabels={{"team": "b"}}', f'{name}.resources.limits.memory="7Gi"')
    own = pod(manifests, name)
    assert {key: own["spec"][key] for key in placement} == placement
    assert own["metadata"]["annotations"]["note"] == "a"
    assert own["metadata"]["labels"]["team"] == "b"
    assert container(manifests, name)["resources"]["limits"]["memory"] == "7Gi"


@pytest.mark.parametrize("name", SERVICES)
def test_replicas_are_fixed_only_without_an_autoscaler(name: str) -> None:
    assert "replicas" not in template().deployment(name)["spec"]
    manifests = template(f"{name}.autoscaling.enabled=false", f"{name}.replicas=3")
    assert manifests.deployment(name)["spec"]["replicas"] == 3
    scaled = {h["metadata"]["name"] for h in manifests.of("HorizontalPodAutoscaler")}
    assert scaled == set(SERVICES) - {name}


def test_keda_scales_between_the_values() -> None:
    manifests = template("keda.enabled=true", "keda.minReplicas=1", "retriever.autoscaling.maxReplicas=3")
    spec = manifests.get("ScaledObject", "retriever")["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 3)
    assert {h["metadata"]["name"] for h in manifests.of("HorizontalPodAutoscaler")} == {"gateway", "scheduler"}


def test_a_role_takes_the_place_of_the_secret_of_the_index() -> None:
    role = 'retriever.serviceAccountAnnotations={"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/index"}'
    manifests = template('index.storage="s3"', 'index.s3.secret=""', role)
    assert not [entry for entry in container(manifests, "retriever")["env"] if "valueFrom" in entry]
    account = manifests.get("ServiceAccount", "retriever")
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].startswith("arn:")


def test_what_holds_documents_or_models_outlives_the_release() -> None:
    for claim in template("gpu.enabled=true").of("PersistentVolumeClaim"):
        assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


# Namespaces and Secrets


def test_nothing_names_another_namespace_than_that_of_the_release() -> None:
    values = ("keda.enabled=true", "tracing.enabled=true", "prometheusRule.enabled=true", "podMonitor.enabled=true")
    manifests = template(*values, 'commands.namespace="team-commands"', namespace="team")
    spaces = {thing["metadata"].get("namespace") for thing in manifests.objects} - {None}
    assert spaces == {"team", "team-commands"}
    text = yaml.safe_dump(list(manifests.objects))
    assert ".sluice.svc" not in text
    assert 'namespace="sluice"' not in text
    assert "sluice-commands" not in text
    (binding,) = manifests.of("RoleBinding")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "scheduler", "namespace": "team"}]
    env = {entry["name"]: entry.get("value") for entry in container(manifests, "scheduler")["env"]}
    assert env["SLUICE_KUBERNETES_NAMESPACE"] == "team-commands"


def test_the_chart_renders_no_secret() -> None:
    assert not template().of("Secret")


@pytest.mark.parametrize("name", ["SLUICE_NATS_PASSWORD", "SLUICE_ADMIN_KEY", "SLUICE_OPENAI_API_KEY"])
def test_a_password_among_the_values_is_refused(name: str) -> None:
    assert name in refused(f'settings={{"{name}": "x"}}')
    assert name in refused(f'gateway.settings={{"{name}": "x"}}')


# The schema


@pytest.mark.parametrize(
    "value",
    [
        "gatway.replicas=1", "gateway.replica=1", "gateway.autoscaling.max=3", "nats.replicas=2", 'index.storage="nfs"',
        'imagePullPolicy="Sometimes"', 'settings={"SLUICE_QUEUE_LIMIT": 100}', 'nats.storage.size="fifty"',
        'gateway.resources.limits.memory=1', 'keda.enabled="yes"', 'gateway.settings={"SLUICE_NATS_USER": "x"}',
    ],
)  # fmt: skip
def test_a_value_that_the_chart_does_not_know_is_refused(value: str) -> None:
    assert "values don't meet the specifications of the schema" in refused(value)


def test_every_value_has_a_place_in_the_schema_and_the_schema_names_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(schema["properties"]) - {"global"} == set(values)
    _check_closed(schema, schema, values)


def _check_closed(schema: Object, root: Object, values: Object) -> None:
    for name, value in values.items():
        member = schema["properties"][name]
        while "$ref" in member:
            member = reduce(getitem, member["$ref"].removeprefix("#/").split("/"), root)
        if "properties" in member:
            assert member["additionalProperties"] is False, name
            known = set(member["properties"]) - {"requests", "limits", "claims", "group"}
            assert known <= set(value) | {"group"}, name
            _check_closed(member, root, value)


# What is printed after an installation


def notes(tmp_path: Path, *values: str) -> str:
    """NOTES.txt, rendered as a template of a copy of the chart: Helm prints it only where there is a cluster."""
    copy = Path(shutil.copytree(CHART, tmp_path / "sluice"))
    text = (copy / "templates" / "NOTES.txt").read_text()
    (copy / "templates" / "NOTES.txt").unlink()
    (copy / "templates" / "_notes.tpl").write_text(f'{{{{ define "notes" }}}}{text}{{{{ end }}}}')
    (copy / "templates" / "notes.yaml").write_text('notes: {{ include "notes" . | quote }}\n')
    chosen = [argument for value in values for argument in ("--set-json", value)]
    done = helm("template", "sluice", copy, "--namespace", "team", "--show-only", "templates/notes.yaml", *chosen)
    assert done.returncode == 0, done.stderr
    return str(yaml.safe_load(done.stdout)["notes"])


def test_the_notes_say_the_next_commands(tmp_path: Path) -> None:
    text = notes(tmp_path)
    commands = (
        "make secrets",
        "-n team create secret generic sluice-gateway-admin",
        "port-forward",
        "sluice keys create",
    )
    places = [text.index(command) for command in commands]
    assert places == sorted(places)


def test_the_notes_name_the_host_where_there_is_an_ingress(tmp_path: Path) -> None:
    text = notes(tmp_path, "ingress.enabled=true", 'host="ask.example.com"', 'index.storage="s3"')
    assert "https://ask.example.com" in text
    assert "port-forward" not in text
    assert "All retrievers run on the node" not in text


def test_objects_of_ones_own_come_along() -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "own", "namespace": "{{ .Release.Namespace }}"},
    }
    assert template(f"extraObjects={json.dumps([claim])}").get("ConfigMap", "own")
