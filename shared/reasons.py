"""What callers are told of an error of a library: what is wrong, and nothing of the machine.

Libraries put the paths of files, of their own sources, and traces of their calls into their messages. The log has all
of it.
"""

import re
from pathlib import Path
from typing import Final

__all__ = ["told"]

TRACE: Final = re.compile(r"\n(Stack trace|Traceback)\b.*", re.DOTALL)
PATH: Final = re.compile(r"(?<![\w.:/\\-])/(?:[^\s'\"/:,;()<>\[\]]+/)+([^\s'\"/:,;()<>\[\]]*)")
"""An absolute path; the group is its last part."""


def told(text: str, folder: Path | None = None) -> str:
    """The text in one line, with the name of each file for its path; paths within the `folder` begin there."""
    text = TRACE.sub("", text)
    if folder is not None:
        text = text.replace(f"{folder}/", "").replace(str(folder), folder.name)
    return " ".join(PATH.sub(r"\1", text).split())
