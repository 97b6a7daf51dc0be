"""Converts a GGUF file into a folder with safetensors and tokenizer: `python -m ... FILE FOLDER`.

A line on standard output tells of each step.
"""

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["GENERATION", "convert"]

GENERATION: Final = {"temperature": 0.0}
"""How the model writes unless a request says otherwise. A small model's likeliest words are its best, and a repetition
penalty would keep it from repeating what the sources say."""


def convert(source: Path, folder: Path) -> None:
    """Write `folder` from the GGUF file `source`, unless it is there. It appears whole or not at all.

    Only one process converts at a time; another waits, and finds the result. Earlier versions' folders are removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    family = folder.name.partition("-")[0]
    with _locked(folder.parent / f".{family}.lock"):
        if folder.is_dir():
            return
        partial = folder.parent / f".{family}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        _write(source, partial)
        _flush(partial)
        for earlier in folder.parent.glob(f"{family}-*"):
            shutil.rmtree(earlier, ignore_errors=True)
        partial.rename(folder)
        _flush_entry(folder.parent)


def _write(source: Path, folder: Path) -> None:
    _tell("loading the libraries (1 of 4)")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    place = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    _tell("reading the tokenizer (2 of 4)")
    AutoTokenizer.from_pretrained(**place).save_pretrained(folder)
    _tell("reading the weights (3 of 4)")
    # The weights' four bits a number fit into bfloat16, and half the disk.
    model = AutoModelForCausalLM.from_pretrained(
        **place, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    _tell("writing (4 of 4)")
    model.save_pretrained(folder)
    settings = folder / "generation_config.json"
    own = json.loads(settings.read_text())
    own.pop("_from_model_config", None)
    settings.write_text(json.dumps(own | GENERATION, indent=2))


def _tell(step: str) -> None:
    sys.stdout.write(f"{step}\n")
    sys.stdout.flush()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _flush(folder: Path) -> None:
    """Have the files on the disk before the name says that they are whole."""
    for file in folder.iterdir():
        _flush_entry(file)
    _flush_entry(folder)


def _flush_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
