"""How a model is to be served: `model.yaml`, Triton's `config.pbtxt` or MLServer's `model-settings.json`.

Any of them may be missing: then the files of the model say all. Only the first that is there is read.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from services.predictor.frameworks.base import NotLoadableError
from services.predictor.repository import pbtxt
from shared.contracts.envelope import Tenant
from shared.contracts.tensors import Datatype, TensorSpec

__all__ = ["ModelConfig", "read_config"]

LARGEST: Final = 1 << 20
"""Bytes of a configuration."""


class SpecConfig(BaseModel):
    """A tensor. `shape` counts the dimension of the rows where there is one; -1 is any length."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200)]
    datatype: Datatype
    shape: tuple[Annotated[int, Field(ge=-1)], ...]

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(name=self.name, datatype=self.datatype, shape=self.shape)


class Latest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    latest: int = Field(ge=1)


class ModelConfig(BaseModel):
    """`versions` are those that are served: all, so many of the newest, or these. `max_batch_size` are the rows of one
    call, 0 for a model whose requests must not be joined; None leaves it to the framework. Without `tenants` all may
    use the model. `memory_mb` is what it takes where that cannot be measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    framework: str = ""
    file: str = Field("", pattern=r"^[^/\\]*$", max_length=200)
    versions: Literal["all"] | Latest | tuple[str, ...] = Latest(latest=1)
    max_batch_size: int | None = Field(None, ge=0)
    max_waiting: int = Field(1024, ge=1)
    memory_mb: int | None = Field(None, ge=1)
    tenants: tuple[Tenant, ...] | None = None
    inputs: tuple[SpecConfig, ...] = ()
    outputs: tuple[SpecConfig, ...] = ()
    parameters: dict[str, JsonValue] = Field(default_factory=dict)


def read_config(folder: Path) -> ModelConfig:
    """Raises NotLoadableError for one that cannot be read."""
    for name, parse in FORMATS.items():
        path = folder / name
        if not path.is_file():
            continue
        try:
            if path.stat().st_size > LARGEST:
                raise ValueError(f"it is larger than {LARGEST:,} bytes")  # noqa: TRY301  (told as the others)
            return ModelConfig.model_validate(parse(path.read_text()))
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
            raise NotLoadableError(f"{name}: {wrong}") from None
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise NotLoadableError(f"{name}: {error}") from None
        except Exception as error:  # noqa: BLE001  (anything may be where a parser expects something else)
            raise NotLoadableError(f"{name}: something in it is of another form: {error!r}") from None
    return ModelConfig()


def _yaml(text: str) -> Any:
    # Aliases of aliases become gigabytes where they are copied, and no configuration needs one.
    if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
        raise ValueError("aliases (*name) are not taken")
    read = yaml.safe_load(text)
    return {} if read is None else read


def _triton(text: str) -> dict[str, Any]:
    """What of Triton's configuration has a meaning here; the rest is how Triton itself is to work."""
    message = pbtxt.parse(text)
    rows = int(pbtxt.one(message, "max_batch_size", 0))
    config: dict[str, Any] = {
        "framework": str(pbtxt.one(message, "backend", "") or pbtxt.one(message, "platform", "")),
        "file": str(pbtxt.one(message, "default_model_filename", "")),
        "max_batch_size": rows,
        "parameters": {
            str(pbtxt.one(entry, "key", "")): pbtxt.one(pbtxt.one(entry, "value", {}), "string_value", "")
            for entry in pbtxt.several(message, "parameters")
        },
    }
    for ours, theirs in (("inputs", "input"), ("outputs", "output")):
        config[ours] = tuple(_triton_spec(entry, rows) for entry in pbtxt.several(message, theirs))
    policy = pbtxt.one(message, "version_policy", None)
    if isinstance(policy, Mapping):
        config["versions"] = _triton_versions(policy)
    return config


def _triton_spec(entry: Mapping[str, Any], rows: int) -> dict[str, Any]:
    datatype = str(pbtxt.one(entry, "data_type", "")).removeprefix("TYPE_")
    dims = [int(size) for size in pbtxt.several(entry, "dims")]
    return {
        "name": pbtxt.one(entry, "name", ""),
        "datatype": "BYTES" if datatype == "STRING" else datatype,
        # Where Triton joins requests, it leaves the dimension of the rows out.
        "shape": (-1, *dims) if rows else tuple(dims),
    }


def _triton_versions(policy: Mapping[str, Any]) -> Any:
    if "all" in policy:
        return "all"
    if "specific" in policy:
        return tuple(str(version) for version in pbtxt.several(pbtxt.one(policy, "specific", {}), "versions"))
    return {"latest": int(pbtxt.one(pbtxt.one(policy, "latest", {}), "num_versions", 1))}


def _mlserver(text: str) -> dict[str, Any]:
    """What of MLServer's settings has a meaning here."""
    settings = json.loads(text)
    if not isinstance(settings, dict):
        raise TypeError("it is not an object")
    parameters = settings.get("parameters") or {}
    config: dict[str, Any] = {
        "framework": str(settings.get("implementation", "")),
        "file": str(parameters.get("uri", "")).removeprefix("./"),
        "parameters": parameters.get("extra") or {},
    }
    if "max_batch_size" in settings:
        config["max_batch_size"] = settings["max_batch_size"]
    for member in ("inputs", "outputs"):
        config[member] = tuple(
            {"name": spec["name"], "datatype": spec["datatype"], "shape": spec["shape"]}
            for spec in settings.get(member) or ()
        )
    return config


FORMATS: Final[Mapping[str, Callable[[str], Any]]] = {
    "model.yaml": _yaml,
    "config.pbtxt": _triton,
    "model-settings.json": _mlserver,
}
