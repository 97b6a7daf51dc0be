"""The launcher of one command: `python -I -S launcher.py`, a process between the scheduler and the command.

It reads one line of JSON, {"argv": [...], "env": {...}}, from its standard input and runs the command in a session and
a temporary folder of its own; the command's output is the launcher's. Then a byte `t` asks the command to end (SIGTERM
to its group). When the input ends, which the system sees to however the scheduler dies, the command is killed. With
the command ends all that it started, also what has left its group, and the folder is removed.

The exit code is the command's; 128 and the signal's number if a signal ended it; 126 or 127 if it could not be run.

It imports nothing but the standard library: it starts in some 20 ms.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["TERMINATE", "main"]

TERMINATE = b"t"

_CHUNK = 64 * 1024
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    order = _order()
    if order is None:
        return 128 + signal.SIGTERM
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    folder = tempfile.mkdtemp(prefix="sluice-command-")
    try:
        return _run(order["argv"], {"HOME": folder, "TMPDIR": folder, **order["env"]}, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _order() -> dict[str, Any] | None:
    """What to run; None if there is nothing to run any more."""
    # Not through sys.stdin: a thread that waits in its lock cannot be left behind at the end.
    text = b""
    while b"\n" not in text:
        data = os.read(0, _CHUNK)
        if not data:
            return None
        text += data
    line, _, rest = text.partition(b"\n")
    order: dict[str, Any] = json.loads(line)
    return None if TERMINATE in rest else order


def _run(argv: list[str], env: dict[str, str], folder: str) -> int:
    try:
        child = subprocess.Popen(  # noqa: S603  (its purpose is to run what it is given)
            argv,
            env=env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # safe: this process has one thread so far
        )
    except (OSError, ValueError) as error:
        sys.stderr.write(f"cannot run {argv[0]!r}: {error}\n")
        return 127 if isinstance(error, FileNotFoundError) else 126
    threading.Thread(target=_obey, args=(child.pid,), daemon=True).start()
    # It is not reaped before its group is killed: until then no other group can take the number.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    _kill_group(child.pid, signal.SIGKILL)
    code = child.wait()
    _kill_orphans()
    return code if code >= 0 else 128 - code


def _obey(group: int) -> None:
    while os.read(0, 1) == TERMINATE:
        _kill_group(group, signal.SIGTERM)
    _kill_group(group, signal.SIGKILL)


def _kill_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _kill_orphans() -> None:
    """Kill the command's descendants that have left its group: on Linux they have become children of this process."""
    while children := _children():
        for pid in children:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children() -> list[int]:
    own = str(os.getpid())
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            pid = int(stat.parent.name)
            parent = stat.read_text().rpartition(")")[2].split()[1]
            if parent == own:
                found.append(pid)
    return found


def _die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


if __name__ == "__main__":
    sys.exit(main())
