"""The services that run and the queues that wait, as the services and the broker report them."""

import asyncio
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo
from nats.js.errors import NotFoundError
from pydantic import ValidationError

from shared.contracts.envelope import Lane
from shared.nats.client import server_version
from shared.nats.subjects import JOBS, QUERIES
from shared.service.service import PING, ServiceStatus
from sluice.api import status as api

__all__ = [
    "ask_all",
    "broker",
    "jobs",
    "queues",
    "discover_services",
]

LONGEST: Final = 0.25
QUIET: Final = 0.1
PAGE: Final = 256


async def discover_services(client: Client, longest: float = LONGEST, quiet: float = QUIET) -> list[api.ServiceStatus]:
    """Every service process that answers within `longest` seconds, or until none has done so for `quiet` seconds."""
    answers = await ask_all(client, PING, b"", longest=longest, quiet=quiet)
    found = [service for answer in answers if (service := _service(answer)) is not None]
    return sorted(found, key=lambda service: (service.service, service.instance))


async def ask_all(client: Client, subject: str, data: bytes, *, longest: float, quiet: float) -> list[bytes]:
    """The answers of all subscribers of a subject, as `discover_services` collects them."""
    replies: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, cb=replies.put)
    found: list[bytes] = []
    try:
        await client.publish(subject, data, reply=inbox)
        async with asyncio.timeout(longest):
            while True:
                async with asyncio.timeout(quiet if found else longest):
                    found.append((await replies.get()).data)
    except TimeoutError:
        return found
    finally:
        await subscription.unsubscribe()


async def queues(jetstream: JetStreamContext) -> list[api.Queue]:
    """The queue of every stage variant and lane that any worker has ever served since the broker started."""
    found = []
    for info in await _consumers(jetstream, QUERIES):
        stage, variant, lane = info.name.split("_")
        found.append(
            api.Queue(
                stage=stage,
                variant=variant,
                lane=lane,
                waiting=info.num_pending or 0,
                in_flight=info.num_ack_pending or 0,
            )
        )
    return sorted(found, key=lambda queue: (queue.stage, queue.variant, queue.lane != Lane.INTERACTIVE))


async def jobs(jetstream: JetStreamContext) -> api.JobsStatus:
    """Jobs that nobody works on yet, and those in work."""
    infos = await _consumers(jetstream, JOBS)
    in_flight = sum(info.num_ack_pending or 0 for info in infos)
    try:
        stored = (await jetstream.stream_info(JOBS)).state.messages
    except NotFoundError:
        stored = 0
    return api.JobsStatus(waiting=max(0, stored - in_flight), in_flight=in_flight)


def broker(client: Client) -> api.BrokerStatus:
    """The server that this connection goes to, without credentials."""
    url = client.connected_url
    return api.BrokerStatus(
        url=f"{url.scheme}://{url.netloc.rpartition('@')[2]}" if url else "",
        version=server_version(client),
    )


async def _consumers(jetstream: JetStreamContext, stream: str) -> list[ConsumerInfo]:
    infos: list[ConsumerInfo] = []
    try:
        while page := await jetstream.consumers_info(stream, offset=len(infos)):
            infos += page
            if len(page) < PAGE:
                break
    except NotFoundError:
        return []
    return infos


def _service(data: bytes) -> api.ServiceStatus | None:
    """A service's status as it answered; None for a message of another version that cannot be read."""
    try:
        status = ServiceStatus.model_validate_json(data)
    except ValidationError:
        return None
    stages = [
        api.StageStatus(
            stage=s.stage,
            variant=s.variant,
            lane_in_flight=s.in_flight,
            room=s.room,
            model=s.model,
            work=s.work.model_dump() if s.work is not None else None,
        )
        for s in status.stages
    ]
    return api.ServiceStatus(**(status.model_dump(exclude={"stages"}) | {"stages": stages}))
