"""The stages of the empty pipeline on the stage runtime: `python -m benchmarks.programs.constant_stages embed`."""

import sys

from benchmarks.peers.constants import ANSWER, EMBEDDING, PASSAGES, TOKENS
from shared.contracts.envelope import Passage, Query, pack_vector
from shared.contracts.events import Usage
from shared.runtime.stage import Context
from shared.service.process import run_stage

ROOM = 256
VECTOR = pack_vector(EMBEDDING)
FOUND = tuple(Passage(id=f"{passage['document_id']}:{passage['position']}", **passage) for passage in PASSAGES)
USAGE = Usage(prompt_tokens=1000, completion_tokens=len(TOKENS))


async def embed(query: Query, _: Context) -> Query:
    return query.with_embedding(VECTOR)


async def retrieve(query: Query, _: Context) -> Query:
    return query.with_passages(FOUND)


async def generate(query: Query, context: Context) -> None:
    await context.sources(query.passages)
    if context.params.get("streamed"):
        for token in TOKENS:
            await context.delta(token)
    else:
        await context.delta(ANSWER)
    await context.done(usage=USAGE, engine="constant")


if __name__ == "__main__":
    name = sys.argv.pop()
    run_stage(name, {"embed": embed, "retrieve": retrieve, "generate": generate}[name], room=ROOM)
