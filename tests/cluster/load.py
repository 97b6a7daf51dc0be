"""The load of the cluster tier: a program that runs in a Pod beside the platform, since a forwarded port ends with the
Pod that it leads to. Standard library and httpx only.

It sends 6 queries a second, a quarter of them streamed, and prints one line of JSON for each.
"""

import asyncio
import json
import os
import time
from typing import Final

import httpx

__all__ = ["RATE", "main"]

RATE: Final = 6.0
"""Queries a second."""

STREAMED: Final = 4
"""One query in so many is streamed."""

DEADLINE: Final = 30.0


async def main(url: str, key: str, seconds: float) -> None:
    headers = {"authorization": f"Bearer {key}"}
    # No connection is kept: a client that finds a closed one would try again, and a count of failures must not.
    limits = httpx.Limits(max_keepalive_connections=0)
    async with (
        httpx.AsyncClient(base_url=url, headers=headers, timeout=DEADLINE + 5, limits=limits) as http,
        asyncio.TaskGroup() as tasks,
    ):
        for number in range(int(seconds * RATE)):
            tasks.create_task(_query(http, number))
            await asyncio.sleep(1 / RATE)


async def _query(http: httpx.AsyncClient, number: int) -> None:
    streamed = number % STREAMED == 0
    body = {"question": "How are chunks cut?", "stream": streamed, "timeout": DEADLINE}
    began = time.monotonic()
    try:
        response = await http.post("/v1/query", json=body)
        ended = "event: done" in response.text if streamed else True
        outcome = "answered" if response.is_success and ended else response.text[:300]
    except httpx.HTTPError as error:
        outcome = repr(error)
    print(json.dumps({"outcome": outcome, "seconds": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(os.environ["URL"], os.environ["KEY"], float(os.environ["SECONDS"])))
