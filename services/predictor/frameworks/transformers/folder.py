"""What a folder of a transformers model may hold: safetensors, and no configuration that names code or other files.

The library opens what a configuration names: a tokenizer's vocabulary, the files of an index. A model that could choose
them would read the secrets of the process, or the weights of another tenant, and give them out as its answers.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from services.predictor.frameworks.base import NotLoadableError

__all__ = ["check_configs", "read_config"]

LARGEST: Final = 1 << 20
"""Bytes of a configuration."""

REFUSED: Final[Mapping[str, str]] = {
    "auto_map": "names Python code of the model's own",
    "custom_pipelines": "names Python code of the model's own",
    "quantization_config": "asks for a package that quantizes",
}
CONFIGS: Final = (
    "config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "adapter_config.json",
)
INDEXES: Final = "*.safetensors.index.json"
LARGEST_INDEX: Final = 16 << 20
"""Bytes of the list of the tensors of a large model."""

WEIGHTS: Final = ".safetensors"


def read_config(folder: Path) -> Mapping[str, Any]:
    """The content of config.json. Raises NotLoadableError for a folder that holds what is not served."""
    if not any(folder.glob("*.safetensors")):
        raise NotLoadableError(
            "the folder has no weights in safetensors. Pickles (pytorch_model.bin) are not loaded: save the model with "
            "save_pretrained of a current version of transformers"
        )
    if (folder / "adapter_config.json").exists():
        raise NotLoadableError("the folder has an adapter, and not a whole model: merge it into its model")
    for index in folder.rglob(INDEXES):
        _check_index(index)
    return check_configs(folder)["config.json"]


def check_configs(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """The configurations in a folder by their names. Raises NotLoadableError for one that names code, or a file that is
    not in the folder."""
    read = {name: _read(folder / name) for name in CONFIGS if (folder / name).is_file()}
    for name, content in read.items():
        for key, value in _members(content):
            if value and key in REFUSED:
                raise NotLoadableError(f"'{key}' in {name} {REFUSED[key]}, which is not served")
            # Attention, and other parts, may be the name of a repository of kernels.
            if key.endswith("_implementation") and "/" in json.dumps(value):
                raise NotLoadableError(f"'{key}' in {name} names code to be downloaded: {str(value)[:80]!r}")
            if any(_is_elsewhere(text, folder) for text in _texts(value)):
                raise NotLoadableError(f"'{key}' in {name} names a file that is not in the model's folder")
    return read


def _check_index(path: Path) -> None:
    """Raises NotLoadableError unless all weights are safetensors beside the index."""
    files = _read(path, LARGEST_INDEX).get("weight_map")
    if not isinstance(files, dict):
        raise NotLoadableError(f"{path.name} has no object 'weight_map'")
    for name in set(map(str, files.values())):
        if Path(name).name != name or not name.endswith(WEIGHTS):
            raise NotLoadableError(f"{path.name} names {name[:80]!r}, which is not a file of safetensors beside it")


def _is_elsewhere(text: str, folder: Path) -> bool:
    """Whether a text of a configuration is the path of a file that is not in the folder. Texts are many things: tokens,
    and paths of the machine on which the model was made. Only a file that there is can be read."""
    path = Path(text)
    try:
        return path.is_file() and not path.resolve().is_relative_to(folder.resolve())
    except OSError:
        return False


def _texts(value: Any) -> list[str]:
    """The value, or what a list of texts holds."""
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]


def _read(path: Path, largest: int = LARGEST) -> Mapping[str, Any]:
    if path.stat().st_size > largest:
        raise NotLoadableError(f"{path.name} is larger than {largest:,} bytes")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise NotLoadableError(f"{path.name} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise NotLoadableError(f"{path.name} is not an object of JSON")
    return content


def _members(content: Any) -> Iterator[tuple[str, Any]]:
    """All members, wherever they are."""
    left = [content]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left += value
        elif isinstance(value, dict):
            yield from value.items()
            left += value.values()
