"""A worker for trainings as a process of its own. Usage: train_worker.py NATS_URL SETTINGS (JSON)"""

import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.harness.training import open_train_harness


async def main(url: str, settings: str) -> None:
    async with open_train_harness(url, **json.loads(settings)) as harness, harness.working():
        await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
