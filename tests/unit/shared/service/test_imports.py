"""Services stay small: a library that only some other service uses, or only some setting, is not loaded."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

MODELS = {"sentence_transformers", "tensorflow", "torch", "transformers", "vllm"}
DATA = {"lancedb", "numpy", "pandas", "pyarrow", "scipy"}
CLIENTS = {
    "aiohttp.client",
    "boto3",
    "grpc",
    "kubernetes",
    "lance_namespace_urllib3_client.api",
    "openai",
    "opentelemetry.exporter",
    "requests",
}
PARSERS = {"docx", "lxml", "pypdf", "pypdfium2", "pptx"}
REST = {"matplotlib", "psutil._common", "pytest", "simpy"}

LOADED = """
import importlib, inspect, json, sys
app = importlib.import_module(sys.argv[1] + ".app")
settings = inspect.signature(app.make).parameters["settings"].annotation
app.make(settings(_env_file=None))
import shared.service.process
print(json.dumps(list(sys.modules)))
"""


def loaded(service: str) -> set[str]:
    """The modules of a service's process before it connects."""
    command = [sys.executable, "-c", LOADED, f"services.{service}"]
    found: list[str] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return set(found)


@pytest.mark.parametrize("service", ["gateway", "generator", "scheduler"])
def test_a_service_without_a_model_or_an_index_loads_no_heavy_library(service: str) -> None:
    assert not loaded(service) & (MODELS | DATA | CLIENTS | PARSERS | REST)


def test_the_retriever_loads_lancedb_without_the_client_of_its_cloud() -> None:
    modules = loaded("retriever")

    # LanceDB takes pandas where it finds it: here beside the packages for training, in its own image not.
    assert modules & DATA - {"pandas"} == {"lancedb", "numpy", "pyarrow"}
    assert not modules & (MODELS | CLIENTS | PARSERS | REST)


def test_the_embedder_loads_no_library_of_models_before_its_model() -> None:
    modules = loaded("embedder")

    assert modules & DATA == {"numpy"}
    assert not modules & (MODELS | CLIENTS | PARSERS | REST | {"huggingface_hub", "openvino", "tokenizers"})


def test_libraries_that_are_loaded_late_work_as_ever() -> None:
    code = "import shared, sys, aiohttp; before = 'aiohttp.client' in sys.modules; import aiohttp.web as w\n"
    code += "print(before, aiohttp.ClientSession.__name__, w.Application.__name__, aiohttp.__path__ != [])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout.split() == ["False", "ClientSession", "Application", "True"]


def test_the_modules_of_a_package_without_its_init_are_there() -> None:
    code = (
        "import services.retriever, lancedb, lance_namespace; print(lance_namespace.ListTablesResponse(tables=['a']))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert "'a'" in done.stdout


def test_a_library_that_is_not_installed_is_left_alone() -> None:
    code = "from shared.service.imports import *; import_when_used('absent_1'); skip_init('absent_2')\nimport absent_1"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    assert find_spec("absent_1") is None
    assert "ModuleNotFoundError: No module named 'absent_1'" in done.stderr
