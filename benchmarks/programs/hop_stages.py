"""The stage processes of the chains: `python -m benchmarks.programs.hop_stages SYSTEM HOP HOPS`."""

import asyncio
import os
import sys
from typing import Any

import nats
import uvloop
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from shared.contracts.envelope import Query
from shared.contracts.events import AnyEvent, Progress
from shared.nats.subjects import query_subject
from shared.nats.topology import Topology
from shared.runtime import executor
from shared.runtime.event_publisher import EventPublisher
from shared.runtime.stage import Context
from shared.service.process import run_stage

__all__ = ["SLUICES", "SYSTEMS"]

SLUICES = ("sluice", "no-progress", "no-store-ack", "traced")
SYSTEMS = ("raw", *SLUICES)
ROOM = 256


async def pass_on(query: Query, _: Context) -> Query:
    return query


class _Nowhere(SpanExporter):
    def export(self, _: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def run_sluice_stage(system: str, name: str) -> None:
    """One stage of a chain, with one promise taken away or added."""
    if system == "no-progress":
        send = EventPublisher.send

        async def send_all_but_progress(self: EventPublisher, event: AnyEvent) -> bool:
            return not isinstance(event, Progress) and await send(self, event)

        EventPublisher.send = send_all_but_progress  # type: ignore[method-assign]
    if system == "no-store-ack":

        async def publish(jetstream: JetStreamContext, _: Topology, query: Query, **__: Any) -> None:
            await jetstream._nc.publish(query_subject(query), query.encode())

        executor.forward = publish  # type: ignore[assignment, attr-defined]
    if system == "traced":
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
        trace.set_tracer_provider(provider)
    run_stage(name, pass_on, room=ROOM)


async def run_raw_stage(url: str, hop: int, hops: int) -> None:
    """The floor: pull a batch, pass each message on with the broker's acknowledgement, acknowledge."""
    client = await nats.connect(url)
    jetstream = client.jetstream()
    subscription = await jetstream.pull_subscribe_bind(f"raw_{hop}", "RAW")

    async def work(message: Msg) -> None:
        reply = message.headers["reply"] if message.headers else ""
        if hop + 1 < hops:
            headers = {"reply": reply, "Nats-Msg-Id": f"{reply}:{hop}"}
            await jetstream.publish(f"raw.{hop + 1}", message.data, headers=headers)
        else:
            await client.publish(reply, message.data)
        await message.ack()

    await client.publish(f"rawready.{hop}", b"")
    async with asyncio.TaskGroup() as tasks:
        while True:
            try:
                for message in await subscription.fetch(ROOM, timeout=5):
                    tasks.create_task(work(message))
            except TimeoutError:  # nobody asked
                await client.publish(f"rawready.{hop}", b"")


def main() -> None:
    system, hop, hops = sys.argv[1:]
    sys.argv[1:] = []
    if system == "raw":
        uvloop.run(run_raw_stage(os.environ["SLUICE_NATS_URL"], int(hop), int(hops)))
    run_sluice_stage(system, f"{system}-{hop}")


if __name__ == "__main__":
    main()
