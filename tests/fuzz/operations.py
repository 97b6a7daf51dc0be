"""Requests to every endpoint of the gateway, each as it would be right."""

from dataclasses import dataclass
from typing import Any, Final

__all__ = ["BODIES", "INFERENCE", "OPENAI", "READS", "WRITES", "Operation"]

OPENAI: Final = ("/v1/chat/", "/v1/completions", "/v1/embeddings", "/v1/models", "/v1/files", "/v1/batches")
"""Paths whose problems have OpenAI's shape."""

INFERENCE: Final = ("/v2/models", "/v2/repository", "/v2/health")
"""Paths whose problems have the shape of the Open Inference Protocol."""


@dataclass(frozen=True, slots=True)
class Operation:
    """`{}` in the path is for a name; `seed` is a body that is right."""

    method: str
    path: str
    seed: Any = None


TOOL: Final = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
SAID: Final = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Say hello."}]
SPEC: Final = {"kind": "evaluate", "input": "a/q.jsonl", "collection": "default"}
TEXTS_SEED: Final = {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}
INFERENCE_SEED: Final = {
    "id": "7",
    "parameters": {"binary_data_output": False, "timeout": 5_000_000},
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [[1, 2, 3], [4, 5, 6]], "parameters": {}}],
    "outputs": [{"name": "y", "parameters": {"binary_data": False}}],
}
PIPELINE: Final = {
    "kind": "pipeline",
    "name": "p",
    "parameters": {"names": ["a"], "n": 1},
    "steps": {
        "one": {"job": {"kind": "switch", "collection": "c"}, "when": "parameters.n > 0"},
        "two": {"job": {"kind": "switch", "collection": "${{ item }}"}, "each": "parameters.names", "needs": ["one"]},
    },
}

BODIES: Final = (
    Operation(
        "POST",
        "/v1/query",
        {
            "question": "What?",
            "messages": [{"role": "user", "content": "Before"}],
            "collection": "default",
            "top_k": 3,
            "filter": {"year": {"$gte": 2020}, "$or": [{"lang": "en"}, {"lang": {"$in": ["de"]}}]},
            "stream": False,
            "timeout": 5.0,
            "conversation": "c1",
            "generate": {
                "max_tokens": 5,
                "temperature": 0.5,
                "stop": ["x"],
                "output": {"json_schema": {"type": "object"}},
            },
        },
    ),
    Operation(
        "POST",
        "/v1/chat/completions",
        {
            "model": "tiny-1",
            "messages": SAID,
            "tools": [TOOL],
            "tool_choice": "auto",
            "temperature": 0.5,
            "max_tokens": 5,
            "stop": ["x"],
            "logprobs": True,
            "top_logprobs": 2,
            "stream": False,
        },
    ),
    Operation(
        "POST",
        "/v1/chat/completions",
        {
            "model": "rag/default",
            "messages": SAID[1:],
            "sluice": {"top_k": 3, "filter": {"year": 1}, "timeout": 5, "conversation": "c"},
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
        },
    ),
    Operation("POST", "/v1/completions", {"model": "tiny-1", "prompt": "Once", "max_tokens": 5, "seed": 1}),
    Operation("POST", "/v1/embeddings", {"model": "tiny-embedder", "input": ["a", "b"], "encoding_format": "float"}),
    Operation("POST", "/v1/collections", {"name": "spare", "description": "d", "pipeline": "default"}),
    Operation(
        "POST",
        "/v1/collections/default/documents",
        {"documents": [{"name": "a/b.txt", "text": "t", "metadata": {"y": 1}}]},
    ),
    Operation(
        "POST",
        "/v1/jobs",
        {"spec": SPEC, "priority": "low", "labels": {"a": "b"}, "retry": {"limit": 2}, "timeout": 60, "by": "me"},
    ),
    Operation("POST", "/v1/jobs", {"spec": PIPELINE}),
    Operation("POST", "/v1/jobs/{}/cancel", {"reason": "r", "by": "me"}),
    Operation("POST", "/v1/jobs/{}/retry", {"reason": "r", "by": "me"}),
    Operation(
        "PUT",
        "/v1/schedules/fuzz",
        {
            "spec": SPEC,
            "cron": "0 3 * * *",
            "zone": "Europe/Berlin",
            "missed": "run_once",
            "overlap": "skip",
            "paused": True,
        },
    ),
    Operation("PUT", "/v1/schedules/every", {"spec": SPEC, "every": "8h", "timeout": 60}),
    Operation("PUT", "/v1/routes/other", {"weights": {"default": 9, "canary": 1}, "shadows": {"next": 5}, "by": "me"}),
    Operation("POST", "/v1/batches", {"input_file_id": "file-1", "endpoint": "/v1/query", "completion_window": "24h"}),
    Operation(
        "POST",
        "/v1/keys",
        {
            "name": "k",
            "tenant": "acme",
            "actions": ["query"],
            "collections": ["docs-*"],
            "expires_in": 60.0,
            "requests_per_minute": 9,
        },
    ),
    Operation(
        "POST",
        "/v1/feedback",
        {
            "answer": "00000000001aaaaaaaaaaaa",
            "rating": "up",
            "correction": "c",
            "comment": "c",
            "tags": ["t"],
            "sources": [{"index": 1, "relevant": True}],
            "opened": [1],
            "copied": True,
        },
    ),
    Operation("POST", "/v1/keys/{}/rotate", {"grace_seconds": 60.0}),
    Operation("POST", "/v2/models/doubler/infer", INFERENCE_SEED),
    Operation("POST", "/v2/models/embed/infer", {"inputs": [TEXTS_SEED], "parameters": {"input_type": "query"}}),
    Operation("POST", "/v2/models/doubler/generate", {"id": "7", "x": [1, 2, 3], "parameters": {"timeout": 5_000_000}}),
    Operation("POST", "/v2/models/embed/generate_stream", {"text": ["a", "b"], "input_type": "query"}),
    Operation("POST", "/v1/models/doubler:predict", {"instances": [[1, 2, 3], {"x": [4, 5, 6]}]}),
    Operation("POST", "/v2/repository/index", {"ready": True}),
    Operation("POST", "/v2/repository/models/doubler/load", {"parameters": {}}),
    Operation(
        "POST",
        "/v1/releases",
        {
            "collection": "default",
            "version": "v1",
            "description": "d",
            "evaluations": ["job-1"],
            "templates": {"answer_user.jinja": "t"},
        },
    ),
    Operation("POST", "/v1/releases/{}/promote", {"keep": 1, "force": False, "reason": "r"}),
    Operation("POST", "/v1/releases/rollback", {"collection": "default", "reason": "r"}),
)

READS: Final = tuple(
    Operation("GET", path)
    for path in (
        *("/v1/collections", "/v1/collections/{}", "/v1/collections/{}/documents", "/v1/collections/default/documents"),
        *("/v1/collections/default/documents/{}", "/v1/jobs", "/v1/jobs/{}", "/v1/jobs/{}/spec", "/v1/jobs/{}/steps"),
        *(
            "/v1/jobs/{}/audit",
            "/v1/runs",
            "/v1/runs/{}",
            "/v1/runs/{}/metrics?name={}",
            "/v1/jobs/{}/artifacts",
            "/v1/jobs/a/artifacts/{}",
            "/v1/jobs/{}/events",
            "/v1/artifacts/a/{}",
        ),
        *("/v1/artifacts/{}/a", "/v1/schedules", "/v1/schedules/{}", "/v1/pipelines", "/v1/routes", "/v1/routes/{}"),
        *(
            "/v1/status",
            "/v1/dead-letters",
            "/v1/payloads",
            "/v1/payloads?id={}",
            "/v1/traces",
            "/v1/usage",
            "/v1/answers",
            "/v1/answers/{}",
            "/v1/answers/{}/lineage",
            "/v1/registry/models",
            "/v1/registry/models/{}",
            "/v1/registry/models/{}/content",
            "/v1/releases",
            "/v1/releases?collection={}",
            "/v1/releases/{}",
            "/v1/releases/{}/lineage",
            "/v1/releases/{}/statement",
            "/v1/releases/{}/content?format={}&signature={}",
            "/v1/comparisons?stage={}",
            "/v1/feedback",
            "/v1/readers/{}",
            "/v1/dead-letters/{}",
            "/v1/traces/{}",
            "/v1/keys",
            "/v1/keys/{}",
            "/v1/models",
            "/v1/models/{}",
            "/v2",
            "/v2/health/ready",
            "/v2/models/{}",
            "/v2/models/{}/ready",
            "/v2/models/doubler/versions/{}",
            "/v2/models/doubler/versions/{}/ready",
        ),
        *(
            "/v1/files",
            "/v1/files/{}",
            "/v1/files/{}/content",
            "/v1/batches",
            "/v1/batches/{}",
            "/livez",
            "/metrics",
            "/{}",
        ),
    )
)

WRITES: Final = (
    *(Operation("DELETE", path) for path in ("/v1/collections/{}", "/v1/collections/default/documents?name={}")),
    *(
        Operation("DELETE", path)
        for path in ("/v1/collections/default/documents/{}", "/v1/artifacts/a/{}", "/v1/files/{}")
    ),
    *(
        Operation("DELETE", path)
        for path in (
            "/v1/schedules/{}",
            "/v1/routes/{}",
            "/v1/keys/{}",
            "/v1/dead-letters/{}",
            "/v1/answers/{}",
            "/v1/readers/{}",
            "/v1/registry/models/{}",
            "/v1/releases/{}",
            "/v1/releases/{}/aliases/a",
        )
    ),
    *(
        Operation("POST", path)
        for path in ("/v1/schedules/{}/pause", "/v1/schedules/{}/resume", "/v1/schedules/{}/trigger")
    ),
    *(Operation("POST", path) for path in ("/v1/dead-letters/{}/replay", "/v1/batches/{}/cancel")),
    *(Operation("POST", f"/v2/repository/models/{{}}/{verb}") for verb in ("load", "unload")),
    Operation("PUT", "/v1/artifacts/a/{}", "content"),
    Operation("POST", "/v1/registry/models?kind={}", "content"),
    Operation("POST", "/v1/releases/content", "content"),
    Operation("PUT", "/v1/releases/{}/aliases/{}", None),
    Operation("PUT", "/v1/artifacts/{}/a", "content"),
)
