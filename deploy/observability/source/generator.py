"""Answers, vLLM and the GPU."""

from typing import Final

from deploy.observability.source.model import RATE, Chart, Dashboard, Row, quantiles, rates, share

__all__ = ["GENERATOR"]

GENERATOR: Final = Dashboard(
    uid="sluice-generator",
    title="Sluice: generator and GPU",
    about="What writing answers costs: tokens, the engine's queue and memory, the GPU.",
    variables=(("model", "sluice_generator_running", "model"),),
    rows=(
        Row(
            title="Answers",
            charts=(
                Chart(
                    title="Time to the first token",
                    about="From the engine's being asked to its first piece.",
                    unit="s",
                    queries=quantiles("sluice_generator_time_to_first_token_seconds", 'model=~"$model"'),
                    exemplars=True,
                ),
                Chart(
                    title="Time between tokens",
                    unit="s",
                    queries=quantiles("sluice_generator_time_per_output_token_seconds", 'model=~"$model"'),
                ),
                Chart(
                    title="Answers being written",
                    queries=(("{{model}}", 'sum by (model) (sluice_generator_running{model=~"$model"})'),),
                ),
                Chart(
                    title="Tokens",
                    unit="ops",
                    about="Tokens a second.",
                    queries=(
                        ("prompt", f'sum(rate(sluice_generator_prompt_tokens_total{{model=~"$model"}}{RATE}))'),
                        (
                            "of these cached",
                            f'sum(rate(sluice_generator_cached_tokens_total{{model=~"$model"}}{RATE}))',
                        ),
                        ("written", f'sum(rate(sluice_generator_completion_tokens_total{{model=~"$model"}}{RATE}))'),
                    ),
                ),
                Chart(
                    title="How answers end",
                    unit="ops",
                    stacked=True,
                    queries=(("{{finish}}", rates("sluice_generator_answers_total", "finish", 'model=~"$model"')),),
                ),
                Chart(
                    title="Wait for a generator, p95",
                    unit="s",
                    queries=quantiles("sluice_stage_queue_wait_seconds", 'stage="generate"', "lane", (0.95,)),
                ),
            ),
        ),
        Row(
            title="vLLM",
            charts=(
                Chart(
                    title="KV cache in use",
                    unit="percentunit",
                    queries=(("{{instance}}", "max by (instance) (vllm:kv_cache_usage_perc)"),),
                ),
                Chart(
                    title="Requests in the engine",
                    queries=(
                        ("running", "sum(vllm:num_requests_running)"),
                        ("waiting", "sum(vllm:num_requests_waiting)"),
                    ),
                ),
                Chart(
                    title="Preemptions",
                    about="Answers that were put back for want of KV cache and computed again.",
                    unit="ops",
                    queries=(("preempted", f"sum(rate(vllm:num_preemptions_total{RATE}))"),),
                ),
                Chart(
                    title="Prefix cache hits",
                    unit="percentunit",
                    queries=(
                        (
                            "hits",
                            share(
                                f"sum(rate(vllm:prefix_cache_hits_total{RATE}))",
                                f"sum(rate(vllm:prefix_cache_queries_total{RATE}))",
                            ),
                        ),
                    ),
                ),
                Chart(
                    title="Wait in the engine",
                    unit="s",
                    queries=quantiles("vllm:request_queue_time_seconds"),
                ),
                Chart(
                    title="Prefill and decode, p95",
                    unit="s",
                    queries=(
                        *(("prefill", q) for _, q in quantiles("vllm:request_prefill_time_seconds", shares=(0.95,))),
                        *(("decode", q) for _, q in quantiles("vllm:request_decode_time_seconds", shares=(0.95,))),
                    ),
                ),
            ),
        ),
        Row(
            title="GPU (DCGM exporter)",
            charts=(
                Chart(
                    title="GPU utilisation",
                    unit="percent",
                    queries=(("{{Hostname}} {{gpu}}", "avg by (Hostname, gpu) (DCGM_FI_DEV_GPU_UTIL)"),),
                ),
                Chart(
                    title="GPU memory in use",
                    unit="decmbytes",
                    queries=(("{{Hostname}} {{gpu}}", "avg by (Hostname, gpu) (DCGM_FI_DEV_FB_USED)"),),
                ),
                Chart(
                    title="GPU power",
                    unit="watt",
                    queries=(("{{Hostname}} {{gpu}}", "avg by (Hostname, gpu) (DCGM_FI_DEV_POWER_USAGE)"),),
                ),
            ),
        ),
    ),
)
