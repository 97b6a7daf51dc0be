"""A small Kubernetes API server: real HTTP, Jobs, Pods and Events of one namespace, and faults to order. It allows what
the role in deploy/ does.

The test plays the controllers: it makes Pods, lets them speak and end, and ends Jobs (or `tests.harness.kubelet` does).
"""

import asyncio
import copy
import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from aiohttp import web

from tests.harness.paths import DEPLOY
from tests.harness.stage_harness import PATIENCE

__all__ = ["ROLE", "FakeKubernetes", "FakePod", "Hold"]

ROLE = DEPLOY / "k8s" / "base" / "commands" / "scheduler-rbac.yaml"
TOKEN = "let-me-in"
NAMESPACE = "team"
KINDS = {
    "jobs": ("batch/v1", "Job"),
    "pods": ("v1", "Pod"),
    "events": ("v1", "Event"),
    "services": ("v1", "Service"),
    "trainjobs": ("trainer.kubeflow.org/v1alpha1", "TrainJob"),
    "rayjobs": ("ray.io/v1", "RayJob"),
}
WORKLOADS = ("jobs", "trainjobs", "rayjobs")
JOB_NAME = "batch.kubernetes.io/job-name"
POD_LABELS = {"trainjobs": "jobset.sigs.k8s.io/jobset-name"}

Object = dict[str, Any]


@dataclass
class Fault:
    """What happens to the next requests of a kind: an error, or a lost connection (status 0), after doing it or not."""

    what: str
    status: int
    times: int
    after: bool
    headers: Mapping[str, str] = field(default_factory=dict)


class Hold:
    """A request that the server has, and does not answer before the test lets it."""

    def __init__(self, after: bool) -> None:
        self.after = after
        self.reached = asyncio.Event()
        self.released = asyncio.Event()

    async def wait(self) -> None:
        """Wait until the request has come."""
        async with asyncio.timeout(PATIENCE):
            await self.reached.wait()

    def release(self) -> None:
        self.released.set()


class FakePod:
    """A Pod of a Job, whose life the test tells."""

    def __init__(self, server: "FakeKubernetes", name: str, container: str = "command") -> None:
        self._server = server
        self.name = name
        self.container = container
        self.lines: list[tuple[int, str]] = []
        self.ended = False

    def unschedulable(self, message: str) -> None:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        self._status({"phase": "Pending", "conditions": [condition]})

    def scheduled(self) -> None:
        """A node has it, and its kubelet has made nothing yet."""
        condition = {"type": "PodScheduled", "status": "True"}
        status = {"phase": "Pending", "conditions": [condition]}
        waiting = {"reason": "ContainerCreating"}
        self._status({**status, **_container({"waiting": waiting}, self.container)})

    def waits(self, reason: str, message: str) -> None:
        self._status(
            {"phase": "Pending", **_container({"waiting": {"reason": reason, "message": message}}, self.container)}
        )

    def runs(self) -> Self:
        self._status({"phase": "Running", **_container({"running": {"startedAt": _now()}}, self.container)})
        return self

    def says(self, line: str, *, together: bool = False) -> None:
        """Add a line to the log, a millisecond after the one before, or at the same time."""
        last = self.lines[-1][0] if self.lines else time.time_ns() - 10**9
        self.lines.append((last if together else last + 10**6, line))
        self._server.changed()

    def ends(self, code: int, reason: str | None = None, **members: Any) -> None:
        self.ended = True
        ended = {"exitCode": code, "reason": reason or ("Error" if code else "Completed"), **members}
        self._status({"phase": "Failed" if code else "Succeeded", **_container({"terminated": ended}, self.container)})

    def _status(self, status: Object) -> None:
        self._server.update("pods", self.name, lambda pod: pod.update(status=status))


class FakeKubernetes:
    """An async context manager. `url` is where it listens; `kubeconfig` writes a file that leads there."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Object]] = {kind: {} for kind in KINDS}
        self.operators: set[str] = set()
        """Of `trainjobs` and `rayjobs`, those whose operator is there."""
        self.pods: dict[str, FakePod] = {}
        self.created: list[str] = []
        self.served: Counter[str] = Counter()
        self.keeps_deleted = False
        self._history: list[tuple[int, str, str, Object]] = []
        self._version = 100
        self._forgotten = 0
        self._expired = 0
        self._faults: list[Fault] = []
        self._streams: dict[str, list[web.Request]] = {"watch": [], "log": []}
        self._news = asyncio.Condition()
        self._watch_tasks: set[asyncio.Task[None]] = set()
        self._holds: dict[str, Hold] = {}
        self._allowed = _allowed()
        self.refused = 0

    # What a test tells it and asks of it.

    def kubeconfig(self, folder: Path, token: str = TOKEN) -> Path:
        cluster = {"name": "c", "cluster": {"server": self.url}}
        user = {"name": "u", "user": {"token": token}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u", "namespace": NAMESPACE}}
        members = {"clusters": [cluster], "users": [user], "contexts": [context], "current-context": "x"}
        path = folder / "kubeconfig"
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **members}))
        return path

    def fail(self, what: str, status: int = 0, *, times: int = 1, after: bool = False, **headers: str) -> None:
        """`what` is "create jobs", "get jobs", "list jobs", "watch jobs", "delete jobs", "list pods", "watch pods",
        "list events" or "log"; status 0 loses the connection; `after` does first what was asked for."""
        self._faults.append(Fault(what, status, times, after, {k.replace("_", "-"): v for k, v in headers.items()}))

    @asynccontextmanager
    async def holding(self, what: str, *, after: bool = False) -> AsyncIterator[Hold]:
        """Hold back the answers to requests of a kind; `after` does first what was asked for."""
        hold = self._holds[what] = Hold(after)
        try:
            yield hold
        finally:
            hold.release()
            del self._holds[what]

    def heal(self) -> None:
        self._faults.clear()

    def cut(self, what: str) -> None:
        """Lose the connections of all watches ("watch") or logs ("log") that are open."""
        for request in self._streams[what]:
            if request.transport is not None:
                request.transport.abort()

    def forget(self) -> None:
        """Forget what has been, as a server does after some minutes: a watch from before is told 410."""
        self._version += 1
        self._forgotten = self._version
        self.changed()

    def bookmark(self) -> None:
        """Tell all watches how far they are, forget what was before that, and end them as after their time."""
        self._version += 1
        mark = {"metadata": {"resourceVersion": str(self._version)}}
        self._history += [(self._version, kind, "BOOKMARK", mark) for kind in KINDS]
        self._forgotten = self._version
        self._expired = self._version
        self.changed()

    async def until(self, condition: Any, what: str) -> Any:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.when(condition)
        except TimeoutError:
            raise AssertionError(f"{what} did not come true; served: {self.served}") from None

    async def when(self, condition: Any) -> Any:
        """Wait, however long, until a condition is true and return its value."""
        async with self._news:
            while not (value := condition()):
                await self._news.wait()
            return value

    async def job(self) -> Object:
        """The one Job, once there is one."""
        await self.until(lambda: self.objects["jobs"], "a Job")
        (job,) = self.objects["jobs"].values()
        return job

    async def reached(self, what: str, times: int = 1) -> None:
        """Wait until so many requests of a kind (see `fail`) have come."""
        await self.until(lambda: self.served[what] >= times, f"{times} x {what}")

    def make_pod(self, job: str, index: int | None = None) -> FakePod:
        owner = self.objects["jobs"][job]
        template = copy.deepcopy(owner["spec"]["template"])
        name = f"{job}-{index if index is not None else 'x'}-{len(self.pods):05}"
        template["metadata"]["labels"]["batch.kubernetes.io/job-name"] = job
        if index is not None:
            template["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] = str(index)
        template["metadata"]["name"] = name
        self.pods[name] = FakePod(self, name)
        self._put("pods", {**template, "status": {"phase": "Pending"}}, "ADDED")
        return self.pods[name]

    def warn(self, name: str, reason: str, message: str) -> None:
        """A warning about a Job or a Pod. As on a cluster, one that is repeated is counted by the same Event."""
        about = {"kind": "Job" if name in self.objects["jobs"] else "Pod", "namespace": NAMESPACE, "name": name}
        own = hashlib.sha256(f"{name}{reason}{message}".encode()).hexdigest()[:16]
        known = self.objects["events"].get(f"{name}.{own}")
        event = {
            "metadata": {"name": f"{name}.{own}", "namespace": NAMESPACE, "creationTimestamp": _now()},
            "involvedObject": about,
            "reason": reason,
            "message": message,
            "type": "Warning",
            "count": 1 if known is None else known["count"] + 1,
            "lastTimestamp": _now(),
        }
        self._put("events", event, "ADDED" if known is None else "MODIFIED")

    def complete(self, job: str) -> None:
        completions = self.objects["jobs"][job]["spec"]["completions"]
        self._end(job, "Complete", "CompletionsReached", "", succeeded=completions)

    def fail_job(self, job: str, reason: str = "BackoffLimitExceeded", message: str = "It has failed.") -> None:
        self._end(job, "Failed", reason, message, failed=1)

    def update(self, kind: str, name: str, change: Any) -> None:
        thing = copy.deepcopy(self.objects[kind][name])
        change(thing)
        self._put(kind, thing, "MODIFIED")

    def remove(self, kind: str, name: str) -> None:
        """As somebody with kubectl would, or the end of a time to live."""
        self._put(kind, self.objects[kind][name], "DELETED")

    def changed(self) -> None:
        async def tell() -> None:
            async with self._news:
                self._news.notify_all()

        task = asyncio.ensure_future(tell())
        self._watch_tasks.add(task)
        task.add_done_callback(self._watch_tasks.discard)

    # The server.

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._guard])
        pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
        events = f"/api/v1/namespaces/{NAMESPACE}/events"
        for kind in WORKLOADS:
            place = f"/apis/{KINDS[kind][0]}/namespaces/{NAMESPACE}/{kind}"
            app.router.add_post(place, self._create)
            app.router.add_get(place, self._list)
            app.router.add_get(place + "/{name}", self._get)
            app.router.add_delete(place + "/{name}", self._delete)
            app.router.add_get(f"/apis/{KINDS[kind][0]}", self._discover)
        app.router.add_post(f"/api/v1/namespaces/{NAMESPACE}/services", self._create)
        app.router.add_get(pods, self._list)
        app.router.add_get(events, self._list)
        app.router.add_get(pods + "/{name}/log", self._log)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for what in self._streams:
            self.cut(what)
        await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refused += 1
            self.changed()
            return _status(401, "Unauthorized", "Unauthorized")
        what = _what(request)
        if what not in self._allowed:
            return _status(403, "Forbidden", f"the scheduler's role does not allow: {what}")
        self.served[what] += 1
        self.changed()
        fault = next((fault for fault in self._faults if fault.what == what), None)
        if fault is None:
            return await self._answer(what, request, handler)
        fault.times -= 1
        if not fault.times:
            self._faults.remove(fault)
        if fault.after:
            await handler(request)
        if not fault.status:
            assert request.transport is not None
            request.transport.abort()
            raise asyncio.CancelledError
        return _status(fault.status, "Fault", "as ordered", **fault.headers)

    async def _answer(self, what: str, request: web.Request, handler: Any) -> web.StreamResponse:
        hold = self._holds.get(what)
        if hold is None:
            return await handler(request)
        answer = await handler(request) if hold.after else None
        hold.reached.set()
        await hold.released.wait()
        return answer or await handler(request)

    async def _create(self, request: web.Request) -> web.Response:
        job = json.loads(await request.read())
        kind = request.path.rpartition("/")[2]
        name = job["metadata"]["name"]
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name):
            return _status(422, "Invalid", f"{name!r} is no name")
        if name in self.objects[kind]:
            return _status(409, "AlreadyExists", f'{kind} "{name}" already exists')
        if kind in WORKLOADS:
            self.created.append(name)
        return web.json_response(self._put(kind, {**job, "status": {}}, "ADDED"), status=201)

    async def _discover(self, request: web.Request) -> web.Response:
        version = request.path.removeprefix("/apis/")
        served = [kind for kind in ("jobs", *self.operators) if KINDS[kind][0] == version]
        if not served:
            return _status(404, "NotFound", "the server could not find the requested resource")
        resources = [{"name": kind, "kind": KINDS[kind][1], "namespaced": True} for kind in served]
        return web.json_response({"kind": "APIResourceList", "groupVersion": version, "resources": resources})

    async def _get(self, request: web.Request) -> web.Response:
        found = self.objects[request.path.split("/")[-2]].get(request.match_info["name"])
        return _status(404, "NotFound", "not found") if found is None else web.json_response(found)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        kind = request.path.rpartition("/")[2]
        if request.query.get("watch") == "true":
            return await self._watch(request, kind)
        items = [thing for thing in self.objects[kind].values() if _selected(thing, request.query)]
        version, name = KINDS[kind]
        metadata = {"resourceVersion": str(self._version)}
        return web.json_response({"apiVersion": version, "kind": f"{name}List", "metadata": metadata, "items": items})

    async def _watch(self, request: web.Request, kind: str) -> web.StreamResponse:
        response = await self._open(request, "watch", "application/json")
        start = place = int(request.query["resourceVersion"])
        try:
            if start < self._forgotten:
                status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
                await response.write(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
                return response
            async with asyncio.timeout(int(request.query["timeoutSeconds"])):
                while start >= self._expired or place < self._expired:
                    for version, of, event, thing in list(self._history):
                        if version > place and of == kind and (event == "BOOKMARK" or _selected(thing, request.query)):
                            await response.write(json.dumps({"type": event, "object": thing}).encode() + b"\n")
                    place = max(place, self._version)
                    if start >= self._expired:
                        await self.when(lambda place=place: self._version > place)
        except (TimeoutError, ConnectionResetError):
            pass
        finally:
            self._streams["watch"].remove(request)
        return response

    async def _delete(self, request: web.Request) -> web.Response:
        kind, name = request.path.split("/")[-2], request.match_info["name"]
        if name not in self.objects[kind]:
            return _status(404, "NotFound", "not found")
        assert request.query["propagationPolicy"] == "Foreground"
        self.update(kind, name, lambda job: job["metadata"].update(deletionTimestamp=_now()))
        if not self.keeps_deleted:
            self.finish_deletion(name, kind)
        return web.json_response({"kind": "Status", "status": "Success"})

    def finish_deletion(self, job: str, kind: str = "jobs") -> None:
        for name, pod in list(self.objects["pods"].items()):
            if pod["metadata"]["labels"].get(POD_LABELS.get(kind, JOB_NAME)) == job:
                self.pods[name].ended = True
                self.remove("pods", name)
        for name, service in list(self.objects["services"].items()):
            if service["metadata"]["ownerReferences"][0]["name"] == job:
                self.remove("services", name)
        self.remove(kind, job)

    def make_operator_pod(self, kind: str, job: str, container: str, index: int | None = None) -> FakePod:
        """A Pod that an operator makes for a TrainJob or a RayJob."""
        labels = {POD_LABELS.get(kind, JOB_NAME): job}
        annotations = {} if index is None else {"batch.kubernetes.io/job-completion-index": str(index)}
        name = f"{job}-{index or 0}-{len(self.pods):05}"
        self.pods[name] = FakePod(self, name, container)
        metadata = {"name": name, "labels": labels, "annotations": annotations}
        self._put("pods", {"metadata": metadata, "spec": {}, "status": {"phase": "Pending"}}, "ADDED")
        return self.pods[name]

    async def _log(self, request: web.Request) -> web.StreamResponse:
        pod = self.pods.get(request.match_info["name"])
        if pod is None or pod.name not in self.objects["pods"]:
            return _status(404, "NotFound", "not found")
        if self.objects["pods"][pod.name]["status"]["phase"] == "Pending":
            return _status(400, "BadRequest", "container is waiting to start")
        assert request.query["container"] == pod.container
        assert request.query["timestamps"] == "true"
        response = await self._open(request, "log", "text/plain")
        since = time.time_ns() - int(request.query.get("sinceSeconds", "1000000")) * 10**9
        written = 0
        try:
            while True:
                while written < len(pod.lines):
                    stamp, text = pod.lines[written]
                    written += 1
                    if stamp >= since:
                        await response.write(f"{_nanoseconds(stamp)} {text}\n".encode())
                if pod.ended:
                    return response
                async with self._news:
                    while written == len(pod.lines) and not pod.ended:
                        await self._news.wait()
        except ConnectionResetError:
            return response
        finally:
            self._streams["log"].remove(request)

    async def _open(self, request: web.Request, what: str, media_type: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": media_type})
        response.enable_chunked_encoding()
        await response.prepare(request)
        self._streams[what].append(request)
        self.changed()
        return response

    @property
    def open_streams(self) -> dict[str, int]:
        return {what: sum(r.transport is not None for r in requests) for what, requests in self._streams.items()}

    def _end(self, job: str, what: str, reason: str, message: str, **counts: int) -> None:
        condition = {"type": what, "status": "True", "reason": reason, "message": message}
        self.update("jobs", job, lambda thing: thing["status"].update(conditions=[condition], **counts))

    def _put(self, kind: str, thing: Object, event: str) -> Object:
        thing = copy.deepcopy(thing)
        version, name = KINDS[kind]
        thing |= {"apiVersion": version, "kind": name}
        thing["metadata"].setdefault("uid", f"uid-{self._version}")
        self._note(kind, event, thing)
        if event == "DELETED":
            del self.objects[kind][thing["metadata"]["name"]]
        else:
            self.objects[kind][thing["metadata"]["name"]] = thing
        return thing

    def _note(self, kind: str, event: str, thing: Object) -> None:
        self._version += 1
        thing["metadata"]["resourceVersion"] = str(self._version)
        self._history.append((self._version, kind, event, thing))
        self.changed()


def _allowed() -> set[str]:
    """What the role that is shipped allows, in the words of `_what`."""
    role = next(thing for thing in yaml.safe_load_all(ROLE.read_text()) if thing["kind"] == "Role")
    pairs = [(verb, name) for rule in role["rules"] for name in rule["resources"] for verb in rule["verbs"]]
    # Whoever has a service account may ask what is served.
    return {"log" if name == "pods/log" else f"{verb} {name}" for verb, name in pairs} | {"discover"}


def _what(request: web.Request) -> str:
    parts = request.path.split("/")
    kind = next((kind for kind in KINDS if kind in parts[-2:]), "pods")
    if parts[-1] == "log":
        return "log"
    if "namespaces" not in parts:
        return "discover"
    if request.method != "GET":
        return f"{'create' if request.method == 'POST' else 'delete'} {kind}"
    if parts[-1] != kind:
        return f"get {kind}"
    return f"{'watch' if request.query.get('watch') == 'true' else 'list'} {kind}"


def _selected(thing: Object, query: Mapping[str, str]) -> bool:
    metadata = thing["metadata"]
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        key, _, value = term.partition("=")
        assert key in ("metadata.name", "involvedObject.name", "type")
        if reduce(lambda part, name: part[name], key.split("."), thing) != value:
            return False
    labels = metadata.get("labels", {})
    terms = [term.partition("=") for term in filter(None, query.get("labelSelector", "").split(","))]
    return all(labels.get(key) == value for key, _, value in terms)


def _status(code: int, reason: str, message: str, **headers: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message}
    return web.json_response({**body, "code": code}, status=code, headers=headers)


def _container(state: Object, name: str) -> Object:
    return {"containerStatuses": [{"name": name, "state": state, "restartCount": 0}]}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _nanoseconds(stamp: int) -> str:
    whole = datetime.fromtimestamp(stamp // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{stamp % 10**9:09}Z"
