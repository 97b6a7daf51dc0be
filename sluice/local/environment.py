"""What each process of `sluice up` is given of the user's environment: what it needs, and nobody else's secrets."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["broker_environment", "program_environment", "service_environment"]

SYSTEM: Final = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TMP", "TEMP", "VIRTUAL_ENV"),
        *("LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "LD_PRELOAD"),
    }
)
"""What any program may look for."""

NETWORK: Final = frozenset(
    {
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    }
)
"""Of these also the names in small letters."""

GO: Final = frozenset({"GOMAXPROCS", "GOMEMLIMIT", "GOGC", "GODEBUG"})

PYTHON: Final = ("LC_", "PYTHON", "XDG_", "MALLOC_", "COVERAGE_")
THREADS: Final = ("OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "RAYON_", "TOKENIZERS_")
MODELS: Final = (
    *("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "SENTENCE_TRANSFORMERS_", "TORCH", "PYTORCH_", "TRITON_", "VLLM_"),
    *("CUDA_", "NVIDIA_", "NCCL_", "HIP_", "ROCR_", "ROCM_", "OV_", "OPENVINO_"),
)
STORAGE: Final = ("AWS_", "AZURE_", "GOOGLE_", "LANCE_", "RUST_")
TELEMETRY: Final = ("OTEL_",)

PREFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "embedder": MODELS,
    "generator": MODELS,
    "predictor": (*MODELS, "AWS_", "AZURE_", "GOOGLE_"),
    "retriever": STORAGE,
    # Trainings are processes that the scheduler starts.
    "scheduler": (*MODELS, "AWS_", "KUBECONFIG", "KUBERNETES_"),
}
"""Beginnings of names, by service."""

SECRETS: Final[Mapping[str, str]] = {
    "SLUICE_ADMIN_KEY": "gateway",
    "SLUICE_ADMIN_KEY_FILE": "gateway",
    "SLUICE_API_KEY": "",
    "SLUICE_IDENTITY_SECRET": "gateway",
    "SLUICE_IDENTITY_SECRET_FILE": "gateway",
    "SLUICE_INDEX_API_KEY": "retriever",
    "SLUICE_INDEX_STORAGE_OPTIONS": "retriever",
    "SLUICE_MLFLOW_PASSWORD": "scheduler",
    "SLUICE_MLFLOW_TOKEN": "scheduler",
    "SLUICE_OPENAI_API_KEY": "generator",
    "SLUICE_OPENID_CLIENT_SECRET": "gateway",
    "SLUICE_OPENID_CLIENT_SECRET_FILE": "gateway",
    "SLUICE_RERANK_API_KEY": "embedder",
    "SLUICE_TRAINING_PASSWORD_FILE": "scheduler",
}
"""The service that a setting is for, where the others must not know it. "": the client's, for no service."""

OWN: Final = re.compile(r"SLUICE_(?!NATS_)")
"""Settings of Sluice's but for those of a broker: `sluice up` brings its own."""


def program_environment(own: Mapping[str, str]) -> dict[str, str]:
    """What a Python program needs that is none of the services."""
    return _chosen(own, SYSTEM, PYTHON)


def broker_environment(own: Mapping[str, str]) -> dict[str, str]:
    return _chosen(own, SYSTEM | GO, ("LC_",))


def service_environment(name: str, own: Mapping[str, str], passed: Iterable[str] = ()) -> dict[str, str]:
    """For the service of this name; `passed` are more names that the user wants all services to have."""
    network = NETWORK | {one.lower() for one in NETWORK}
    prefixes = (*PYTHON, *THREADS, *TELEMETRY, *PREFIXES.get(name, ()))
    settings = {key: value for key, value in own.items() if OWN.match(key) and SECRETS.get(key, name) == name}
    return _chosen(own, SYSTEM | network | frozenset(passed), prefixes) | settings


def _chosen(own: Mapping[str, str], names: frozenset[str], prefixes: tuple[str, ...]) -> dict[str, str]:
    return {key: value for key, value in own.items() if key in names or key.startswith(prefixes)}
