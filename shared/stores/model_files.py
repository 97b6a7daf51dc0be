"""What may be a file of a model: weights as safetensors, and text. Nothing that runs code when it is loaded."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, Final

from shared.contracts.models import ModelFile, ModelKind
from shared.contracts.problems import Problem, ProblemType
from shared.stores.base_models import ADAPTER_CONFIG

__all__ = ["MAX_BYTES", "MAX_FILES", "check_file_name", "check_kind", "check_path", "read_files", "verify_file"]

MAX_FILES: Final = 200
MAX_BYTES: Final = 20 * 2**30
"""Of all files of a model together."""

WEIGHTS: Final = ".safetensors"
TEXTS: Final = frozenset({".json", ".jsonl", ".txt", ".md", ".jinja"})
SENTENCEPIECE: Final = ".model"
MAX_HEADER: Final = 16 * 2**20
"""Bytes of the JSON that a safetensors file begins with."""

BITS: Final = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 8),
}
"""Of one number, by its type in a safetensors file. Types that are not listed are not measured."""

MAX_DIMENSIONS: Final = 64
"""Of a tensor; more would take long to multiply."""

MAX_TEXT: Final = 200 * 2**20
MAX_CONFIG: Final = 8 * 2**20
"""Bytes of a JSON file that is parsed: what it becomes in memory has twenty times as many."""

VOCABULARIES: Final = frozenset({"tokenizer.json", "vocab.json"})
"""JSON files that may be larger. Nothing in them names code."""

MAX_PATH: Final = 200

MODULES: Final = "modules.json"
LIBRARY: Final = "sentence_transformers."
ACTIVATIONS: Final = "torch.nn."
ACTIVATION_MEMBERS: Final = ("activation_fn", "activation_function", "sbert_ce_default_activation_function")
"""Members of configurations that sentence-transformers imports and calls by their dotted names."""

FILE_MEMBERS: Final = ("vocab", "merges", "gguf_file", "tokenizer_name_or_path")
"""Members of configurations that libraries open as files where they are texts, wherever these are. No library writes
them so."""

WEIGHT_MAP: Final = "weight_map"
"""The member of an index that names the file of each tensor."""

PICKLE: Final = b"\x80"
"""The first byte of a pickle of protocol 2 or later."""

ZIP: Final = b"PK\x03\x04"
"""PyTorch's own files are ZIP archives with a pickle inside."""

BLOCK: Final = 2**20


def read_files(folder: Path) -> tuple[ModelFile, ...]:
    """The files of a model's folder with their hashes, in the order of their paths. Hidden files are left out.

    Reads all of it: call it in a thread. Raises Problem INVALID_REQUEST for what no model may hold, and OSError.
    """
    paths = sorted(_paths(folder), key=lambda path: path.relative_to(folder).as_posix())
    if len(paths) > MAX_FILES:
        raise _refused(f"It has {len(paths)} files; a model has at most {MAX_FILES}.")
    if sum(path.stat().st_size for path in paths) > MAX_BYTES:
        raise _refused(f"Its files have more than {MAX_BYTES // 2**30} GiB together.")
    if not any(path.suffix == WEIGHTS for path in paths):
        raise _refused("It has no weights as a safetensors file.")
    return tuple(_file(path, path.relative_to(folder).as_posix()) for path in paths)


def check_kind(files: Sequence[ModelFile], kind: ModelKind) -> None:
    """Raises Problem INVALID_REQUEST where a model of this kind may not have such files."""
    if kind is ModelKind.ADAPTER:
        return
    # Where libraries find this file, they load the model that it names, from wherever that is.
    for file in files:
        if file.path.rpartition("/")[2] == ADAPTER_CONFIG:
            raise _refused(
                f"'{file.path}' says that it is an adapter of another model, and the kind is '{kind}'. Merge it into "
                "that model first (merge_and_unload of peft), or store it as the kind 'adapter'."
            )


def verify_file(path: Path, file: ModelFile) -> None:
    """Raises Problem INVALID_REQUEST where the bytes at `path` are not the model's `file`, or no model may hold it."""
    found = _file(path, file.path)
    if (found.size, found.sha256) != (file.size, file.sha256):
        raise _refused(
            f"'{file.path}' has the SHA-256 {found.sha256[:16]}… and {found.size:,} bytes instead of "
            f"{file.sha256[:16]}… and {file.size:,} bytes. It was changed or damaged after it was stored."
        )


def check_path(path: str) -> str:
    """A file's path within its model. Raises Problem INVALID_REQUEST for one that leads elsewhere."""
    parts = path.split("/")
    printable = path.isascii() and path.isprintable() and "\\" not in path
    if not printable or len(path) > MAX_PATH or any(part in ("", ".", "..") or part[0] == "." for part in parts):
        raise _refused(f"{path[:80]!r} is not a path within a model.")
    return path


def check_file_name(path: str) -> str:
    """A file's path, as `check_path` has it, and its suffix. Raises Problem INVALID_REQUEST."""
    if Path(check_path(path)).suffix not in (WEIGHTS, SENTENCEPIECE, *TEXTS):
        raise _refused(
            f"'{path}' is not a file of a model here: weights are safetensors, and beside them there are "
            f"{', '.join(sorted(TEXTS))} and {SENTENCEPIECE}. Files that run code when they are loaded (pickle, .bin, "
            ".pt, .py) are refused; convert weights with safetensors.torch.save_file."
        )
    return path


def _paths(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.is_symlink():
            raise _refused(f"'{path.relative_to(folder)}' is a symbolic link. Put the file itself there.")
        if path.is_file():
            yield path


def _file(path: Path, name: str) -> ModelFile:
    check_file_name(name)
    _check_content(path, name)
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    return ModelFile(path=name, size=size, sha256=digest.hexdigest())


def _check_content(path: Path, name: str) -> None:
    suffix = Path(name).suffix
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith((PICKLE, ZIP)):
        raise _refused(f"'{name}' is a pickle or an archive, whatever its name says. Nothing of it was loaded.")
    if suffix == WEIGHTS:
        _check_weights(path, name, start)
    elif suffix in TEXTS:
        _check_text(path, name, suffix)


def _check_weights(path: Path, name: str, start: bytes) -> None:
    """Whether a file begins as safetensors does: eight bytes with the length of a JSON object, and the object."""
    length = int.from_bytes(start, "little")
    size = path.stat().st_size
    if len(start) == 8 and 2 <= length <= min(MAX_HEADER, size - 8):
        with path.open("rb") as file:
            file.seek(8)
            try:
                header = json.loads(file.read(length))
            except (ValueError, RecursionError):
                header = None
        if isinstance(header, dict) and _covers(header, size - 8 - length):
            return
    raise _refused(f"'{name}' is not a safetensors file.")


def _covers(header: Mapping[str, Any], size: int) -> bool:
    """Whether the tensors follow each other without a gap, from the first to the last byte, each as long as its type
    and shape say."""
    at = 0
    try:
        tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
        for tensor in sorted(tensors, key=lambda tensor: tensor["data_offsets"]):
            start, end = tensor["data_offsets"]
            if type(start) is not int or type(end) is not int or start != at or end < start:
                return False
            shape = tensor["shape"]
            if len(shape) > MAX_DIMENSIONS or any(type(n) is not int or not 0 <= n < 2**63 for n in shape):
                return False
            bits = BITS.get(tensor["dtype"])
            if bits is not None and prod(shape) * bits != (end - start) * 8:
                return False
            at = end
    except (KeyError, TypeError, ValueError):
        return False
    return at == size


def _check_text(path: Path, name: str, suffix: str) -> None:
    if path.stat().st_size > MAX_TEXT:
        raise _refused(f"'{name}' has more than {MAX_TEXT // 2**20} MiB.")
    try:
        if suffix == ".json" and path.name not in VOCABULARIES:
            if path.stat().st_size > MAX_CONFIG:
                raise _refused(f"'{name}' has more than {MAX_CONFIG // 2**20} MiB, too many for a configuration.")
            _check_config(json.loads(path.read_text("utf-8")), name)
            return
        with path.open(encoding="utf-8") as file:
            while file.read(BLOCK):
                pass
    except (ValueError, RecursionError) as error:
        raise _refused(f"'{name}' is not {'JSON' if suffix == '.json' else 'text'}: {error}") from None


def _check_config(content: object, name: str) -> None:
    """Refuses what has a library import code, or read files, that it would not by itself, wherever in the file that is
    named."""
    is_list_of_modules = name.rpartition("/")[2] == MODULES
    left = [content]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left += value
        elif isinstance(value, dict):
            if value.get("auto_map"):
                raise _refused(f"'{name}' names Python code of the model's own ('auto_map'), which is never run here.")
            types = value.get("types")  # of a router's modules
            named = [value.get("type")] if is_list_of_modules else []
            folders = [value.get("path")] if is_list_of_modules else []
            if isinstance(types, dict):
                named += types.values()
                folders += types  # a router's modules are in folders of these names
            _check_names(name, named, LIBRARY)
            _check_folders(name, folders)
            _check_names(name, [value.get(member) for member in ACTIVATION_MEMBERS], ACTIVATIONS)
            _check_files(name, value)
            left += value.values()


def _check_files(file: str, members: Mapping[str, object]) -> None:
    """Refuses what has a library read files that are not the model's: they would be known by its answers."""
    for member in FILE_MEMBERS:
        if isinstance(members.get(member), str):
            raise _refused(f"'{file}' names a file to be read ('{member}'). The files of a model have fixed names.")
    weights = members.get(WEIGHT_MAP)
    for one in map(str, weights.values() if isinstance(weights, dict) else ()):
        if Path(one).name != one or not one.endswith(WEIGHTS):
            raise _refused(f"'{file}' names {one[:80]!r}, which is not a safetensors file beside it.")


def _check_folders(file: str, named: Iterable[object]) -> None:
    """Refuses modules in folders that are not the model's own."""
    for one in named:
        parts = str(one or "").rstrip("/").split("/")
        if parts != [""] and ("\\" in str(one) or any(part in ("", ".", "..") for part in parts)):
            raise _refused(f"'{file}' names the folder {str(one)[:80]!r}, which is not one of the model's own.")


def _check_names(file: str, named: Sequence[object], prefix: str) -> None:
    for one in named:
        # A plain word is an entry of a library's own list.
        if isinstance(one, str) and "." in one and not one.startswith(prefix):
            raise _refused(
                f"'{file}' names the Python code {one[:80]!r}; only what begins with {prefix!r} may be there."
            )


def _refused(detail: str) -> Problem:
    return Problem(ProblemType.INVALID_REQUEST, f"The model is refused. {detail}")
