"""A stage that takes as many milliseconds as each query's question says."""

import asyncio
import os

from shared.contracts.envelope import Query
from shared.runtime.stage import Context
from shared.service.process import run_stage

ROOM = 256


async def work(query: Query, _: Context) -> Query:
    if query.question:
        await asyncio.sleep(float(query.question) / 1e3)
    return query


if __name__ == "__main__":
    run_stage(os.environ.get("SLUICE_STAGE", "work"), work, room=ROOM)
