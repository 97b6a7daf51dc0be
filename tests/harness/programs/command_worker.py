"""A worker for commands as a process of its own. Usage: command_worker.py NATS_URL SETTINGS (JSON)"""

import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.harness.command_harness import CommandHarness
from tests.harness.stage_harness import open_stage_harness


async def main(url: str, settings: str) -> None:
    async with (
        open_stage_harness(url, ack_wait=1.0) as harness,
        CommandHarness(harness, **json.loads(settings)).working(),
    ):
        await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
