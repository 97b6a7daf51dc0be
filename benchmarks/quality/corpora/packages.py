"""Debian packages as folders of files, without installing them, and apt's lists with descriptions.

`packages.lock` holds the versions that the figures of docs/benchmarks.md were measured with. A mirror serves only its
newest versions: another one is used too, with a warning, since the texts differ little.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["LOCK", "cache_folder", "locked", "package", "paragraphs", "version"]

LOCK: Final = Path(__file__).with_name("packages.lock")
LANGUAGES: Final = ("en", "de", "es", "fr", "it", "ja", "ru", "zh_CN")


def cache_folder(*parts: str) -> Path:
    """A folder below `$SLUICE_QUALITY_CACHE`, made if it is missing."""
    root = os.environ.get("SLUICE_QUALITY_CACHE") or Path.home() / ".cache" / "sluice-quality"
    folder = Path(root).joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@cache
def locked() -> dict[str, tuple[str, str]]:
    """Version and SHA-256 of each package of the lock, by its name."""
    lines = [line.split() for line in LOCK.read_text().splitlines() if line and not line.startswith("#")]
    return {name: (number, checksum) for name, number, checksum in lines}


@cache
def package(name: str) -> Path:
    """The folder with the files of a package. Raises SystemExit where it cannot be had."""
    archive = _archive(name)
    folder = archive.with_suffix("")
    if not folder.is_dir():
        working = folder.with_suffix(f".{os.getpid()}")
        subprocess.run(["dpkg-deb", "-x", archive, working], check=True)
        try:
            working.rename(folder)
        except OSError:  # another process was faster
            subprocess.run(["rm", "-r", working], check=True)
    return folder


def version(name: str) -> str:
    """Which version of a package is there."""
    shown = subprocess.run(["dpkg-deb", "-f", _archive(name), "Version"], check=True, capture_output=True, text=True)
    return shown.stdout.strip()


def _archive(name: str) -> Path:
    folder = cache_folder("packages")
    wanted, checksum = locked().get(name, ("", ""))
    for archive in sorted(folder.glob(f"{name}_*.deb"), reverse=True):
        if not checksum or hashlib.sha256(archive.read_bytes()).hexdigest() == checksum:
            return archive
    found = sorted(folder.glob(f"{name}_*.deb"))
    if not found:
        asked = [f"{name}={wanted}"] if wanted else []
        for what in (*asked, name):
            subprocess.run(["apt-get", "download", what], cwd=folder, check=False, capture_output=True)
            if found := sorted(folder.glob(f"{name}_*.deb")):
                break
    if not found:
        raise SystemExit(f"The package {name} cannot be downloaded: run apt-get update, or put it into {folder}.")
    if checksum and hashlib.sha256(found[-1].read_bytes()).hexdigest() != checksum:
        print(f"{name} is not of version {wanted}, so figures may differ a little.", file=sys.stderr)
    return found[-1]


@cache
def package_lists() -> Path:
    """A folder with apt's lists in all LANGUAGES, apart from those of the system."""
    lists = cache_folder("apt", "lists")
    if not any(lists.glob("*_Translation-en*")):
        settings = lists.parent / "apt.conf"
        languages = " ".join(f'"{language}";' for language in LANGUAGES)
        settings.write_text(f"#clear Acquire::Languages;\nAcquire::Languages {{ {languages} }};\n")
        cache_folder("apt", "lists", "partial")
        options = [f"-oDir::State::lists={lists}", f"-oDir::Cache={lists.parent / 'cache'}"]
        subprocess.run(["apt-get", "-c", settings, *options, "update"], check=True, stdout=sys.stderr, timeout=300)
    return lists


def paragraphs(pattern: str) -> Iterator[dict[str, str]]:
    """The entries of the lists whose names match, each as its fields; lines of a field keep their line breaks."""
    for path in sorted(package_lists().glob(pattern)):
        shown = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", path], check=True, capture_output=True)
        for block in shown.stdout.decode("utf-8", "replace").split("\n\n"):
            fields: dict[str, str] = {}
            name = ""
            for line in block.split("\n"):
                if line[:1] in (" ", "\t") and name:
                    fields[name] += "\n" + line[1:]
                elif ":" in line:
                    name, _, value = line.partition(":")
                    fields[name] = value.strip()
            if fields:
                yield fields
