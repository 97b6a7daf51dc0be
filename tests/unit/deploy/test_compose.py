"""docker-compose.yml says what the services understand, and confines every container."""

import re
from typing import Any

import pytest
import yaml

from services.embedder.settings import EmbedderSettings
from services.gateway.settings import GatewaySettings
from services.generator.settings import GeneratorSettings
from services.predictor.settings import PredictorSettings
from services.retriever.settings import RetrieverSettings
from services.scheduler.settings import SchedulerSettings
from shared.service.settings import ServiceSettings
from tests.harness.paths import ROOT

SETTINGS: dict[str, type[ServiceSettings]] = {
    "gateway": GatewaySettings,
    "embedder": EmbedderSettings,
    "retriever": RetrieverSettings,
    "generator": GeneratorSettings,
    "predictor": PredictorSettings,
    "scheduler": SchedulerSettings,
}
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.mark.parametrize("service", SETTINGS)
def test_every_setting_in_the_compose_file_exists(service: str) -> None:
    known = {f"SLUICE_{name.upper()}" for name in SETTINGS[service].model_fields}
    for name in CONTAINERS[service]["environment"]:
        assert name in known or not name.startswith("SLUICE_"), f"{service} knows no {name}"


@pytest.mark.parametrize("service", SETTINGS)
def test_a_service_is_built_from_its_own_dockerfile_with_arguments_that_it_knows(service: str) -> None:
    build = CONTAINERS[service]["build"]
    assert build["dockerfile"] == f"services/{service}/Dockerfile"
    known = set(re.findall(r"^ARG (\w+)", (ROOT / build["dockerfile"]).read_text(), flags=re.MULTILINE))
    assert set(build["args"]) <= known


@pytest.mark.parametrize("service", SETTINGS)
def test_a_service_has_longer_to_stop_than_its_grace_period(service: str) -> None:
    stop = float(CONTAINERS[service]["stop_grace_period"].removesuffix("s"))
    assert stop >= SETTINGS[service].model_fields["grace_seconds"].default + 5


@pytest.mark.parametrize("service", SETTINGS)
def test_a_service_waits_for_a_broker_that_is_healthy(service: str) -> None:
    assert CONTAINERS[service]["depends_on"]["nats"] == {"condition": "service_healthy"}
    assert "healthcheck" in CONTAINERS["nats"]


@pytest.mark.parametrize("service", SETTINGS)
def test_replicas_of_a_service_do_not_get_into_each_others_way(service: str) -> None:
    assert "container_name" not in CONTAINERS[service]
    assert service == "gateway" or "ports" not in CONTAINERS[service]


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_is_confined(name: str) -> None:
    container = CONTAINERS[name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container.get("restart") == ("no" if name == "credentials" else "unless-stopped")
    assert {"memory", "pids"} <= set(container["deploy"]["resources"]["limits"])
    if container.get("user", "65532:65532") != "65532:65532":
        assert container["network_mode"] == "none"


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_is_reached_from_this_machine_only(name: str) -> None:
    assert all(re.match(r"127\.0\.0\.1:|\$\{SLUICE_ADDRESS:-127\.0\.0\.1\}:", port) for port in _ports(name))


def _ports(name: str) -> list[str]:
    return list(CONTAINERS[name].get("ports", []))


def test_every_request_needs_a_key_unless_a_file_says_otherwise() -> None:
    environment = CONTAINERS["gateway"]["environment"]
    assert environment["SLUICE_ADMIN_KEY_FILE"] == "/run/sluice/admin.key"
    assert "SLUICE_ALLOW_ANONYMOUS" not in environment
    assert "/for/gateway/admin.key" in CONTAINERS["credentials"]["command"][0]


def test_nobody_outside_reaches_the_broker() -> None:
    assert COMPOSE["networks"]["bus"]["internal"] is True
    assert CONTAINERS["nats"]["networks"] == ["bus"]
    assert not _ports("nats")


def test_the_image_of_everything_that_is_not_ours_can_be_set() -> None:
    for name, container in CONTAINERS.items():
        assert (
            container["image"].startswith(f"sluice/{name}:" if name in SETTINGS else "${SLUICE_")
            or "build" in container
        )


def test_no_password_is_in_the_repository() -> None:
    files = [
        ROOT / "docker-compose.yml",
        *(file for file in (ROOT / "deploy" / "compose").rglob("*") if file.is_file()),
    ]
    for file in files:
        for value in re.findall(r"(?i)passw(?:or)?d[\"']?\s*[:=]\s*(\S+)", file.read_text()):
            assert value.startswith(("$", '"$', "{", 'f"')), f"{file.name}: {value}"


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_file_that_is_mounted_exists(name: str) -> None:
    for volume in CONTAINERS[name].get("volumes", []):
        source = volume.split(":")[0]
        assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]


def test_prometheus_looks_for_every_service_and_the_collector_hears_them() -> None:
    folder = ROOT / "deploy" / "observability"
    (job, *_) = yaml.safe_load((folder / "prometheus.yaml").read_text())["scrape_configs"]
    assert {name for each in job["dns_sd_configs"] for name in each["names"]} == set(SETTINGS)
    collector = yaml.safe_load((folder / "collector.yaml").read_text())
    assert collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].endswith(":4318")
    assert "http://collector:4318" in TEXT
    for part in ("receivers", "processors", "exporters"):
        used = {name for pipeline in collector["service"]["pipelines"].values() for name in pipeline[part]}
        assert used == set(collector[part])
