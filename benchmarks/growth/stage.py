"""A stage of constant work: SLUICE_STAGE names it, SLUICE_ROOM says how many queries it works on at once.

The work is a wait, as long as the stop's parameter `ms` says, so that many replicas fit on few cores.
"""

import asyncio
import os

from shared.contracts.envelope import Query
from shared.contracts.events import Usage
from shared.runtime.stage import Context
from shared.service.process import run_stage


async def wait(query: Query, context: Context) -> Query | None:
    await asyncio.sleep(float(context.params.get("ms", 0)) / 1e3)
    if len(query.slip) > 1:
        return query
    await context.delta("Done.")
    await context.done(usage=Usage(), engine="constant")
    return None


if __name__ == "__main__":
    run_stage(os.environ["SLUICE_STAGE"], wait, room=int(os.environ["SLUICE_ROOM"]))
