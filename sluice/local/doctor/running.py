"""Checks of what runs: the services' readiness, stages without workers, queues, dead letters, clocks."""

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

import httpx

from sluice.api.status import Status
from sluice.client import Client
from sluice.client.errors import SluiceError, UnreachableError
from sluice.client.wire import DEFAULT_URL, is_loopback
from sluice.local.doctor.finding import Finding, Place, Verdict
from sluice.local.state import UpState

__all__ = ["checks"]

DAMAGED = "sluice_collections_damaged"
STAGES = ("embed", "retrieve", "generate")
LONG_QUEUE = 100
SKEW_SECONDS = 5.0
TIMEOUT = 3.0


def checks(place: Place) -> Iterator[Finding]:
    local = UpState.running(place.data)
    if local is not None:
        yield from _services(local, place)
        yield from _indices(local, place)
    url = place.url or (local.url if local is not None else DEFAULT_URL)
    asked_for = place.url is not None or local is not None
    try:
        with Client(url, timeout=TIMEOUT) as client:
            status = client.status()
    except UnreachableError as error:
        yield _unreachable(error, url, asked_for)
        return
    except SluiceError as error:
        verdict = Verdict.WRONG if asked_for else Verdict.NOTE
        yield Finding("Sluice", verdict, str(error), "Look into the gateway's log." if asked_for else "")
        return
    yield Finding("Sluice", Verdict.GOOD, f"{status.version} at {url}")
    yield from _skew(url)
    if local is None:
        yield from _ready(status)
    yield from _stages(status)
    yield from _queues(status)
    yield _dead_letters(status)


def _services(local: UpState, place: Place) -> Iterator[Finding]:
    for name, service in local.services.items():
        log = place.data / "logs" / f"{name}.log"
        state = service.state if name == "nats" else _readiness(service.url)
        verdict = Verdict.GOOD if state == "ready" else Verdict.WRONG
        again = f", restarted {service.restarts} times" if service.restarts else ""
        remedy = "" if verdict is Verdict.GOOD else f"Read {log}."
        yield Finding(name, verdict, f"{state}{again}", remedy)


def _indices(local: UpState, place: Place) -> Iterator[Finding]:
    """What the scheduler found when it compared the records of each collection with its index."""
    try:
        text = httpx.get(f"{local.services['scheduler'].url}/metrics", timeout=TIMEOUT, trust_env=False).text
    except (httpx.HTTPError, KeyError):
        return
    values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"{DAMAGED} ")]
    if values and float(values[0]):
        message = f"{float(values[0]):,.0f} collections have other documents in their index than on record"
        remedy = f"Read {place.data / 'logs' / 'scheduler.log'}, and docs/operations.md#damaged-collections."
        yield Finding("collections", Verdict.WRONG, message, remedy)
    elif values:
        yield Finding("collections", Verdict.GOOD, "their indices hold what their records name")


def _readiness(url: str) -> str:
    try:
        response = httpx.get(f"{url}/readyz", timeout=TIMEOUT, trust_env=False)
    except httpx.HTTPError:
        return "does not answer"
    if response.is_success:
        return "ready"
    try:
        return f"not ready: {response.json()['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"not ready: HTTP {response.status_code}"


def _unreachable(error: UnreachableError, url: str, asked_for: bool) -> Finding:
    if asked_for:
        message = f"{url} does not answer ({error.problem.title.lower()})"
        return Finding("Sluice", Verdict.WRONG, message, "`sluice up` starts it.")
    return Finding("Sluice", Verdict.NOTE, "none runs here; `sluice up` starts one")


def _skew(url: str) -> Iterator[Finding]:
    try:
        response = httpx.get(f"{url}/livez", timeout=TIMEOUT, trust_env=not is_loopback(url))
        there = parsedate_to_datetime(response.headers["Date"]).timestamp()
    except (httpx.HTTPError, KeyError, ValueError):
        return
    skew = abs(time.time() - there)
    if skew > SKEW_SECONDS:
        message = f"this machine's and the gateway's differ by {skew:.0f} s"
        yield Finding("clocks", Verdict.WRONG, message, "Synchronise them (NTP): deadlines compare them.")


def _ready(status: Status) -> Iterator[Finding]:
    for service in status.services:
        if not service.ready:
            name = f"{service.service} ({service.instance})"
            yield Finding(service.service, Verdict.WRONG, f"{name} is not ready", "Read its log.")


def _stages(status: Status) -> Iterator[Finding]:
    served = {stage.stage for service in status.services if service.ready for stage in service.stages}
    waiting = {queue.stage for queue in status.queues if queue.waiting}
    without = sorted((set(STAGES) | waiting) - served)
    if without:
        remedy = "Start a worker of it: queries wait in its queue until their deadline."
        yield Finding("stages", Verdict.WRONG, f"no worker serves {', '.join(without)}", remedy)
    else:
        yield Finding("stages", Verdict.GOOD, f"{', '.join(sorted(served))} have workers")


def _queues(status: Status) -> Iterator[Finding]:
    long = [queue for queue in status.queues if queue.lane == "interactive" and queue.waiting > LONG_QUEUE]
    for queue in long:
        message = f"{queue.waiting:,} queries wait for {queue.stage}/{queue.variant}"
        yield Finding("queues", Verdict.DOUBTFUL, message, f"Add workers of {queue.stage}.")
    if not long:
        waiting = sum(queue.waiting for queue in status.queues)
        yield Finding("queues", Verdict.GOOD, f"{waiting:,} waiting, {status.jobs.waiting:,} jobs waiting")


def _dead_letters(status: Status) -> Finding:
    if status.dead_letters:
        message = f"{status.dead_letters:,} messages were given up on"
        return Finding("dead letters", Verdict.DOUBTFUL, message, "`sluice dead-letters` lists them with reasons.")
    return Finding("dead letters", Verdict.GOOD, "none")
