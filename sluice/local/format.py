"""The format of a data folder, so that an older release does not touch what it does not understand."""

import json
from pathlib import Path
from typing import Final

from sluice.local.private import write_private

__all__ = ["FORMAT", "FormatError", "check_format"]

FORMAT: Final = 1
"""Goes up with each change after which an older release would read or write the folder wrongly."""

FILE: Final = "format.json"


class FormatError(Exception):
    """The data folder is of a format that this release does not know."""


def check_format(data: Path) -> None:
    """Write the format into a folder that says none, as those of earlier releases. Raises FormatError, or OSError."""
    file = data / FILE
    try:
        found = json.loads(file.read_text())["format"]
    except FileNotFoundError:
        write_private(file, json.dumps({"format": FORMAT}) + "\n")
        return
    except (ValueError, KeyError, TypeError):
        raise FormatError(f"{file} cannot be read; restore it from a backup") from None
    if not isinstance(found, int) or found < 1:
        raise FormatError(f"{file} cannot be read; restore it from a backup")
    if found > FORMAT:
        raise FormatError(
            f"{data} was written by a later release: its format is {found}, and this release knows {FORMAT}; "
            "install the later release again, or choose another folder with --data"
        )
