"""The models of the repository: inferences, memory, and how their data drifts."""

from typing import Final

from deploy.observability.source.model import RATE, Chart, Dashboard, Row, quantiles, rates, share

__all__ = ["PREDICTOR"]

MODEL: Final = 'model=~"$model"'
MODEL_NAME: Final = 'model_name=~"$model"'
"""As KServe's model server calls the label."""

PREDICTOR: Final = Dashboard(
    uid="sluice-predictor",
    title="Sluice: models",
    about="Inferences by model, which models are in memory, and how far their data is from before.",
    variables=(("model", "sluice_predictor_inferences_total", "model"),),
    rows=(
        Row(
            title="Inferences",
            charts=(
                Chart(
                    title="Inferences by model",
                    unit="ops",
                    stacked=True,
                    queries=(("{{model}}", rates("sluice_predictor_inferences_total", "model", MODEL)),),
                ),
                Chart(
                    title="Failed",
                    about="Share of the inferences of each version that failed.",
                    unit="percentunit",
                    queries=(
                        (
                            "{{model}} {{version}}",
                            share(
                                rates(
                                    "sluice_predictor_inferences_total", "model, version", f'{MODEL}, outcome="failed"'
                                ),
                                rates("sluice_predictor_inferences_total", "model, version", MODEL),
                            ),
                        ),
                    ),
                ),
                Chart(
                    title="Time of the model, p95",
                    about="With the wait for a batch.",
                    unit="s",
                    queries=quantiles("request_predict_seconds", MODEL_NAME, "model_name", (0.95,)),
                ),
                Chart(
                    title="Wait for a predictor",
                    unit="s",
                    queries=quantiles("sluice_stage_queue_wait_seconds", 'stage="predict"'),
                ),
                Chart(
                    title="Reading tensors, p95",
                    unit="s",
                    queries=quantiles("request_preprocess_seconds", MODEL_NAME, "model_name", (0.95,)),
                ),
                Chart(
                    title="Writing tensors, p95",
                    unit="s",
                    queries=quantiles("request_postprocess_seconds", MODEL_NAME, "model_name", (0.95,)),
                ),
            ),
        ),
        Row(
            title="Memory",
            charts=(
                Chart(
                    title="Found in memory",
                    about="Share of the inferences whose model was in the memory of the predictor that ran them.",
                    unit="percentunit",
                    queries=(
                        (
                            "found",
                            share(
                                f'sum(rate(sluice_predictor_uses_total{{found="loaded"}}{RATE}))',
                                f"sum(rate(sluice_predictor_uses_total{RATE}))",
                            ),
                        ),
                    ),
                ),
                Chart(
                    title="Loads",
                    unit="ops",
                    queries=(("{{outcome}}", rates("sluice_predictor_loads_total", "outcome")),),
                ),
                Chart(
                    title="Time of a load",
                    unit="s",
                    queries=quantiles("sluice_predictor_load_seconds"),
                ),
                Chart(
                    title="Models in memory",
                    queries=(("{{instance}}", "max by (instance) (sluice_predictor_models_loaded)"),),
                ),
                Chart(
                    title="Memory of models",
                    unit="bytes",
                    queries=(("{{instance}}", "max by (instance) (sluice_predictor_models_bytes)"),),
                ),
                Chart(
                    title="Passed on to another predictor",
                    unit="ops",
                    queries=(("{{outcome}}", rates("sluice_predictor_forwarded_total", "outcome")),),
                ),
            ),
        ),
        Row(
            title="Data",
            charts=(
                Chart(
                    title="Stability index",
                    about="Of the latest rows against the reference: below 0.1 alike, above 0.25 different.",
                    queries=(
                        (
                            "{{model}} {{kind}} {{feature}}",
                            f"max by (model, kind, feature) (sluice_drift_stability_index{{{MODEL}}})",
                        ),
                    ),
                ),
                Chart(
                    title="Outliers",
                    unit="percentunit",
                    queries=(("{{model}} {{kind}}", f"max by (model, kind) (sluice_drift_outliers{{{MODEL}}})"),),
                ),
                Chart(
                    title="Payloads logged",
                    unit="ops",
                    queries=(("{{outcome}}", rates("sluice_gateway_payloads_total", "outcome")),),
                ),
            ),
        ),
    ),
)
