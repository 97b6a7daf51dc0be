"""Which services `sluice up` runs, and what it tells them of a model repository."""

from pathlib import Path

from sluice.local.broker import Broker
from sluice.local.spec import LocalSettings, Wave, default_services

FIVE = ["embedder", "retriever", "generator", "scheduler", "gateway"]


def test_a_predictor_runs_where_there_are_models_to_serve() -> None:
    assert [spec.name for spec in default_services("127.0.0.1", 0)] == FIVE
    specs = {spec.name: spec for spec in default_services("127.0.0.1", 0, models=True)}
    assert sorted(specs) == sorted([*FIVE, "predictor"])
    assert specs["predictor"].wave == Wave.STAGE


def test_the_services_are_told_where_the_models_are(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    settings = LocalSettings(data=tmp_path, models=str(tmp_path / "models"))
    own = {"SLUICE_MODEL_REPOSITORY": "elsewhere"}
    environment = settings.environment("predictor", own, broker)
    assert environment["SLUICE_MODEL_REPOSITORY"] == str(tmp_path / "models")


def test_the_port_for_grpc_is_the_one_that_was_asked_for(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    own = {"SLUICE_GRPC_PORT": "1"}
    asked = LocalSettings(data=tmp_path, grpc_port=8081).environment("gateway", own, broker)
    assert asked["SLUICE_GRPC_PORT"] == "8081"
    assert "SLUICE_GRPC_PORT" not in LocalSettings(data=tmp_path).environment("gateway", {}, broker)
