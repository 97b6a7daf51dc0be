"""The Kubernetes API as Sluice uses it, by the official client.

What may pass is tried again: lost connections, 429 (after what the server asks for) and 5xx, and 401 with fresh
credentials. Where it does not pass within `kubernetes_patience` seconds, Problem CLUSTER_UNAVAILABLE is raised.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Final, Self, cast

import aiohttp
import anyio
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration, CoreV1Api, CustomObjectsApi, V1Service
from kubernetes.aio.config.incluster_config import load_incluster_config

from services.scheduler.commands.kubernetes.errors import CONNECTION, Refusal, RetryLimit, check
from services.scheduler.commands.kubernetes.kinds import JOB, WorkloadKind
from services.scheduler.commands.kubernetes.views import EventView, Object
from services.scheduler.commands.settings import CommandSettings, in_cluster
from shared.contracts.problems import Problem, ProblemType

__all__ = ["PAUSE", "Cluster"]

REQUEST: Final = 30.0
"""Seconds for one request."""

WATCH: Final = 60
"""Seconds after which a watch is made anew, so that a dead connection is noticed."""

IDLE: Final = 10.0
"""Seconds without a word after which a log stream says that it is silent."""

LOG: Final = 1800.0
"""Seconds after which a log stream is made anew."""

PAUSE: Final = 0.1
"""Seconds between the end of a watch and the next one."""

NAMESPACE_FILE: Final = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

Call = Callable[..., Awaitable[aiohttp.ClientResponse]]


class Cluster:
    """One namespace of a cluster, for objects of one kind. `connect` makes it.

    Methods say "Job" for an object of the kind, whatever it is.
    """

    def __init__(self, api: ApiClient, namespace: str, settings: CommandSettings, kind: WorkloadKind = JOB) -> None:
        self.namespace = namespace
        self.kind = kind
        self._api = api
        self._settings = settings
        self._configuration = api.configuration
        self._objects = CustomObjectsApi(api)
        self._core = CoreV1Api(api)

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: CommandSettings) -> AsyncIterator[Self]:
        """Raises Problem COMMAND_REFUSED where no cluster is configured."""
        configuration = Configuration()
        try:
            namespace = await _load(configuration, settings)
        except (config.ConfigException, OSError) as error:
            raise Problem(ProblemType.COMMAND_REFUSED, f"No Kubernetes cluster is configured: {error}") from error
        configuration.connection_pool_maxsize = 0  # no limit: every log that is followed is a connection
        async with ApiClient(configuration) as api:
            yield cls(api, namespace, settings)

    def of(self, kind: WorkloadKind) -> "Cluster":
        """The same for another kind."""
        return Cluster(self._api, self.namespace, self._settings, kind)

    async def serves(self, kind: WorkloadKind) -> bool:
        """Whether the cluster knows the kind."""
        if kind is JOB:
            return True
        discover = partial(self._objects.get_api_resources_without_preload_content, kind.group, kind.version)
        try:
            known = await self._ask(discover)
        except Refusal as refusal:
            if refusal.status in (403, 404):
                return False
            raise
        return any(entry["name"] == kind.plural for entry in known.get("resources") or ())

    def retry_limit(self) -> RetryLimit:
        return RetryLimit(self._settings.kubernetes_patience)

    async def create_job(self, manifest: Object) -> Object:
        """Raises Refusal 409 where one of that name exists. One request is never broken off half-way by a cancel: the
        Job would come to be after it was looked for."""
        call = partial(
            self._objects.create_namespaced_custom_object_without_preload_content, *self._place, dict(manifest)
        )
        return await self._ask(call, whole=True)

    async def create_service(self, manifest: Object) -> None:
        """One of that name that exists stays."""
        create = self._core.create_namespaced_service_without_preload_content
        try:
            await self._ask(partial(create, self.namespace, cast("V1Service", manifest)))
        except Refusal as refusal:
            if refusal.status != 409:
                raise

    async def job(self, name: str) -> Object | None:
        """A Job; None where there is none."""
        try:
            return await self._ask(
                partial(self._objects.get_namespaced_custom_object_without_preload_content, *self._place, name)
            )
        except Refusal as refusal:
            if refusal.status != 404:
                raise
            return None

    async def jobs(self, labels: str) -> list[Object]:
        listed = await self._ask(
            partial(
                self._objects.list_namespaced_custom_object_without_preload_content,
                *self._place,
                label_selector=labels,
                resource_version="0",
            )
        )
        return list(listed["items"])

    async def pods(self, job: str) -> list[Object]:
        """The Pods of a Job."""
        listed = await self._ask(self._pods_of(job))
        return list(listed["items"])

    async def warnings(self, name: str) -> list[EventView]:
        """The warnings of the last hour about a Job or a Pod."""
        listing = self._core.list_namespaced_event_without_preload_content
        chosen = f"involvedObject.name={name},type=Warning"
        listed = await self._ask(partial(listing, self.namespace, field_selector=chosen))
        return [EventView.of(thing) for thing in listed["items"]]

    async def delete_job(self, name: str) -> None:
        """Begin to delete a Job: it goes after its Pods have gone. One that is not there is no error."""
        delete = self._objects.delete_namespaced_custom_object_without_preload_content
        try:
            await self._ask(partial(delete, *self._place, name, propagation_policy="Foreground"))
        except Refusal as refusal:
            if refusal.status != 404:
                raise

    def watch_job(self, name: str) -> AsyncGenerator[Object | None, None]:
        """A Job now and after each of its changes, for ever; None while there is none."""
        listing = partial(
            self._objects.list_namespaced_custom_object_without_preload_content,
            *self._place,
            field_selector=f"metadata.name={name}",
        )
        return self._only(listing, name)

    def watch_pods(self, job: str) -> AsyncGenerator[dict[str, Object], None]:
        """The Pods of a Job by name, now and after each change, for ever."""
        return self._watched(self._pods_of(job))

    async def log(self, pod: str, *, since_seconds: int | None) -> AsyncGenerator[bytes, None]:
        """Follow a Pod's log, each line with its time, to the container's end; empty bytes say that it is silent.

        Raises Refusal, and what CONNECTION holds.
        """
        response = await self._core.read_namespaced_pod_log_without_preload_content(
            pod,
            self.namespace,
            container=self.kind.container,
            follow=True,
            timestamps=True,
            since_seconds=since_seconds,
            _request_timeout=LOG,
        )
        try:
            await check(response)
            while True:
                try:
                    async with asyncio.timeout(IDLE):
                        data = await response.content.readany()
                except TimeoutError:
                    yield b""
                    continue
                if not data:
                    return
                yield data
        finally:
            response.close()

    @property
    def _place(self) -> tuple[str, str, str, str]:
        return self.kind.group, self.kind.version, self.namespace, self.kind.plural

    def _pods_of(self, job: str) -> Call:
        return partial(
            self._core.list_namespaced_pod_without_preload_content,
            self.namespace,
            label_selector=f"{self.kind.pods}={job}",
        )

    async def _only(self, listing: Call, name: str) -> AsyncGenerator[Object | None, None]:
        async with aclosing(self._watched(listing)) as changes:
            async for found in changes:
                yield found.get(name)

    async def _watched(self, listing: Call) -> AsyncGenerator[dict[str, Object], None]:
        """List, then watch from there; a watch that breaks off goes on where it was, or lists again if the server has
        forgotten that place."""
        retry_limit = self.retry_limit()
        known: dict[str, Object] = {}
        version: str | None = None
        while True:
            try:
                if version is None:
                    listed = await self._once(listing)
                    known = {thing["metadata"]["name"]: thing for thing in listed["items"]}
                    version = listed["metadata"]["resourceVersion"]
                    retry_limit.reset()
                    yield dict(known)
                async with aclosing(self._events(listing, version)) as events:
                    async for kind, thing in events:
                        retry_limit.reset()
                        version = thing["metadata"]["resourceVersion"]
                        if kind == "BOOKMARK":
                            continue
                        if kind == "DELETED":
                            known.pop(thing["metadata"]["name"], None)
                        else:
                            known[thing["metadata"]["name"]] = thing
                        yield dict(known)
                await anyio.sleep(PAUSE)
            except Refusal as refusal:
                if refusal.status == 410:
                    version = None
                    await anyio.sleep(PAUSE)
                elif refusal.passing:
                    await self._recover(retry_limit, refusal)
                else:
                    raise
            except CONNECTION as error:
                await retry_limit.rest(error)

    async def _events(self, listing: Call, version: str) -> AsyncGenerator[tuple[str, Object], None]:
        response = await listing(
            watch=True,
            allow_watch_bookmarks=True,
            resource_version=version,
            timeout_seconds=WATCH,
            _request_timeout=WATCH + REQUEST,
        )
        try:
            await check(response)
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise Refusal.of(event["object"], 500)
                yield event["type"], event["object"]
        finally:
            response.close()

    async def _ask(self, call: Call, *, whole: bool = False) -> Object:
        """Ask until there is an answer. Raises Refusal for one that will not change."""
        retry_limit = self.retry_limit()
        while True:
            try:
                with anyio.CancelScope(shield=whole):
                    return await self._once(call)
            except Refusal as refusal:
                if not refusal.passing:
                    raise
                await self._recover(retry_limit, refusal)
            except CONNECTION as error:
                await retry_limit.rest(error)

    async def _once(self, call: Call) -> Object:
        response = await call(_request_timeout=REQUEST)
        try:
            await check(response)
            answer: Object = json.loads(await response.read())
            return answer
        finally:
            response.close()

    async def _recover(self, retry_limit: RetryLimit, refusal: Refusal) -> None:
        await retry_limit.rest(refusal)
        if refusal.status == 401:
            await _load(self._configuration, self._settings)


async def _load(configuration: Configuration, settings: CommandSettings) -> str:
    """Read address and credentials. Returns the namespace."""
    if settings.kubernetes_config is None and settings.kubernetes_context is None and in_cluster():
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        own = await anyio.Path(NAMESPACE_FILE).read_text()
        return settings.kubernetes_namespace or own.strip()
    file = None if settings.kubernetes_config is None else str(settings.kubernetes_config)
    await config.load_kube_config(  # type: ignore[no-untyped-call]
        config_file=file, context=settings.kubernetes_context, client_configuration=configuration, persist_config=False
    )
    contexts, current = config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]
    chosen = settings.kubernetes_context or current["name"]
    context: Object = next((entry["context"] for entry in contexts if entry["name"] == chosen), {})
    return settings.kubernetes_namespace or context.get("namespace") or "default"
