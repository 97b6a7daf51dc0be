"""Reading the services' logs: the end of a file, new lines as they come, and JSON lines as text for people."""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["follow", "readable", "tail"]

POLL = 0.2


def tail(log: Path, *, start: int = 0, lines: int = 20) -> list[str]:
    """The last lines of a log from the byte `start` on, readable; empty where there are none."""
    try:
        with log.open(encoding="utf-8", errors="replace") as file:
            file.seek(start)
            entries = deque(file, maxlen=lines)
    except OSError:
        return []
    return [line for entry in entries for line in readable(entry).splitlines()]


def readable(line: str) -> str:
    """A JSON log line as `LEVEL message`, with its exception; any other line as it is."""
    line = line.rstrip("\n")
    try:
        entry = json.loads(line)
        text = f"{entry['level']} {entry['message']}"
    except (ValueError, KeyError, TypeError):
        return line
    return f"{text}\n{entry['exception']}" if entry.get("exception") else text


async def follow(logs: Mapping[str, Path], show: Callable[[str, str], None]) -> None:
    """Call `show(name, line)` for every line that is written to the logs from now on; runs until cancelled."""
    positions = {name: _size(log) for name, log in logs.items()}
    while True:
        for name, log in logs.items():
            if _size(log) > positions[name]:
                positions[name] = _read(name, log, positions[name], show)
        await asyncio.sleep(POLL)


def _read(name: str, log: Path, position: int, show: Callable[[str, str], None]) -> int:
    with log.open("rb") as file:
        file.seek(position)
        whole, newline, _ = file.read().rpartition(b"\n")
    for line in whole.decode(errors="replace").splitlines():
        show(name, readable(line))
    return position + len(whole) + len(newline)


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except OSError:
        return 0
