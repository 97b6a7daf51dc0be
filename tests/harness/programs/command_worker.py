"""A worker for commands as a process of its own. Usage: command_worker.py NATS_URL SETTINGS (JSON)"""

import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.harness.bench import open_bench
from tests.harness.commands import CommandDesk


async def main(url: str, settings: str) -> None:
    async with open_bench(url, ack_wait=1.0) as bench, CommandDesk(bench, **json.loads(settings)).working():
        await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
