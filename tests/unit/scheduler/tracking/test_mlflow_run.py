"""A run in MLflow's terms."""

from services.scheduler.tracking.mlflow_run import experiment_name, metrics_of, outputs_of, params_of, tags_of
from services.scheduler.tracking.settings import TrackingSettings
from shared.contracts.jobs import CommandSpec, Job, JobOptions, PipelineSpec
from shared.contracts.metrics import MetricHistory
from shared.contracts.runs import MOST_PARAMETERS, parameters_of

SETTINGS = TrackingSettings()


def job(**members: object) -> Job:
    return Job.model_validate({"id": "j1", "kind": "tune", "collection": "docs", "created_at": 5.0, **members})


def test_a_run_is_in_the_experiment_of_its_tenant_and_collection() -> None:
    assert experiment_name(SETTINGS, job(tenant="acme")) == "sluice/acme/docs"
    assert experiment_name(SETTINGS, job(collection="", kind="pipeline", name="nightly")) == "sluice/default/nightly"
    assert experiment_name(SETTINGS, job(collection="")) == "sluice/default/tune"


def test_secrets_of_commands_are_not_among_the_parameters() -> None:
    steps = {"a": {"job": {"kind": "command", "args": ["x"], "env": {"TOKEN": "s3cret"}}}}
    spec = PipelineSpec.model_validate({"name": "p", "steps": steps, "parameters": {"größe !": 1, "none": None}})
    params = {str(each["key"]): str(each["value"]) for each in params_of(spec)}
    assert "s3cret" not in str(params)
    assert params["steps.a.job.env.TOKEN"] == "***"
    assert params["parameters.gr__e _"] == "1"
    assert "s3cret" not in str(parameters_of(CommandSpec(args=("x",), env={"TOKEN": "s3cret"})))


def test_parameters_are_bounded() -> None:
    spec = PipelineSpec.model_validate(
        {"name": "p", "steps": {"a": {"job": {}}}, "parameters": {f"p{n}": "x" * 5_000 for n in range(500)}}
    )
    found = parameters_of(spec)
    assert len(found) == MOST_PARAMETERS
    assert max(len(str(value)) for value in found.values()) == 1_000
    assert max(len(str(each["value"])) for each in params_of(spec)) == 500


def test_only_steps_that_are_new_are_logged_and_what_is_not_finite_is_left_out() -> None:
    history = MetricHistory()
    for step, value in ((1, 1.0), (2, float("nan")), (3, 3.0)):
        history.add(step, 1.5, {"loss": value})
    assert [each["step"] for each in metrics_of(history, {})] == [1, 3]
    assert metrics_of(history, {"loss": 1}) == [{"key": "loss", "value": 3.0, "timestamp": 1500, "step": 3}]


def test_an_output_is_logged_at_the_last_step_of_its_name() -> None:
    history = MetricHistory()
    history.add(7, 1.5, {"loss": 1.0})
    ended = job(outputs={"loss": 0.5, "trials": 3, "better": True, "version": "v2"}, finished_at=9.0)
    assert [(each["key"], each["step"], each["timestamp"]) for each in outputs_of(ended, history)] == [
        ("loss", 7, 9000),
        ("trials", 0, 9000),
    ]


def test_what_is_not_known_is_no_tag() -> None:
    found = {str(each["key"]): each["value"] for each in tags_of(job(options=JobOptions(by="ann")), SETTINGS, None)}
    assert (found["sluice.job"], found["mlflow.user"]) == ("j1", "ann")
    assert "sluice.parent" not in found
    assert "mlflow.note.content" not in found
