"""Takes the changes of releases and of their aliases off their bucket, and copies them to MLflow's model registry."""

from typing import Final, NamedTuple

from prometheus_client import Gauge
from pydantic import ValidationError

from services.scheduler.tracking.copy_worker import CopyWorker
from services.scheduler.tracking.release_mirror import ReleaseMirror
from services.scheduler.tracking.run_mirror import server_id
from services.scheduler.tracking.settings import TrackingSettings
from shared.contracts.releases import Release
from shared.nats.kv import is_removal
from shared.nats.subjects import RELEASES, bucket_stream
from shared.runtime.delivery import Delivery
from shared.service.bus import Bus

__all__ = ["ReleaseCopyWorker"]

WAITING: Final = Gauge("sluice_mlflow_releases_waiting", "Changes of releases that are not copied to MLflow so far.")

PREFIX: Final = f"$KV.{RELEASES}."
ALIAS: Final = "alias"


class _Changed(NamedTuple):
    """A collection whose releases or aliases have changed, or a release that was deleted."""

    tenant: str
    collection: str = ""
    deleted: str = ""


class ReleaseCopyWorker(CopyWorker[_Changed]):
    def __init__(self, bus: Bus, mirror: ReleaseMirror, settings: TrackingSettings, *, ack_wait: float) -> None:
        name = f"mlflow_releases_{server_id(settings)}"
        stream = bucket_stream(RELEASES)
        super().__init__(bus, settings, stream=stream, consumer=name, waiting=WAITING, ack_wait=ack_wait)
        self._mirror = mirror

    async def _repair(self) -> None:
        await self._bus.topology.ensure()
        await self._bus.topology.ensure_record_consumer(RELEASES, self._name)

    def _item(self, delivery: Delivery) -> _Changed | None:
        tenant, _, key = delivery.subject.removeprefix(PREFIX).partition(".")
        if not self._copies(tenant):
            return None
        if key.startswith(f"{ALIAS}."):
            return _Changed(tenant, collection=key.split(".")[1])
        if is_removal(delivery.headers):
            return _Changed(tenant, deleted=key)
        try:
            release = Release.model_validate_json(delivery.data)
        except ValidationError:
            return None  # a later version of Sluice has written it
        return _Changed(tenant, collection=release.content.collection)

    def _named(self, item: _Changed) -> str:
        return f"the release {item.deleted}" if item.deleted else f"a release of the collection {item.collection}"

    async def _copy(self, item: _Changed) -> float | None:
        if item.deleted:
            await self._mirror.forget(item.deleted)
        else:
            await self._mirror.copy(item.tenant, item.collection)
        return None

    async def _is_final(self, _: _Changed) -> bool:
        return True
