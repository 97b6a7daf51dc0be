"""Takes jobs off the queue, both lanes, for as long as there is room."""

import asyncio
from functools import partial

from services.scheduler.runner import JobRunner
from shared.bus import Bus
from shared.envelope import Lane
from shared.pull import PullConsumer
from shared.topology import JOBS, job_consumer
from shared.worker import StageStatus

__all__ = ["JobWorker"]


class JobWorker:
    """A `shared.service.Worker` for jobs: half of the room is kept for the interactive lane."""

    def __init__(self, bus: Bus, runner: JobRunner, *, room: int, ack_wait: float) -> None:
        self._bus = bus
        self._room = room
        self._consumers = {
            lane: PullConsumer(
                bus.client,
                stream=JOBS,
                consumer=job_consumer(lane),
                room=partial(self._lane_room, lane),
                handle=runner.handle,
                repair=bus.topology.ensure,
                ack_wait=ack_wait,
            )
            for lane in Lane
        }

    @property
    def pulling(self) -> bool:
        return all(consumer.pulling for consumer in self._consumers.values())

    @property
    def statuses(self) -> list[StageStatus]:
        in_flight = {lane.value: consumer.held for lane, consumer in self._consumers.items()}
        return [StageStatus(stage="jobs", variant="default", in_flight=in_flight, room=self._room)]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for consumer in self._consumers.values():
                tasks.create_task(consumer.run())

    async def probe(self) -> None:
        """The job queue is there and answers."""
        for lane in Lane:
            await self._bus.jetstream.consumer_info(JOBS, job_consumer(lane))

    async def reset(self) -> None:
        for consumer in self._consumers.values():
            await consumer.reset()

    async def drain(self, grace: float) -> None:
        await asyncio.gather(*(consumer.drain(grace) for consumer in self._consumers.values()))

    def _lane_room(self, lane: Lane) -> int:
        return max(1, self._room // 2) if lane is Lane.BATCH else self._room
