"""The blocking client."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError

from sluice.api.base import Listing
from sluice.api.collections import Collection
from sluice.api.documents import Document
from sluice.api.jobs import Job
from sluice.api.queries import Done, Event
from sluice.client import (
    calls,
    feedback_calls,
    job_calls,
    key_calls,
    payload_calls,
    registry_calls,
    release_calls,
    run_calls,
    wire,
)
from sluice.client.call import Call, as_method
from sluice.client.errors import SluiceError
from sluice.client.progress import job_display
from sluice.client.reconnect import OUTAGE_LIMIT, RECONNECT_DELAY, SILENCE, ReconnectPolicy, update
from sluice.client.run_comparison import RunComparison, compare

__all__ = ["Client"]

P = ParamSpec("P")
T = TypeVar("T")


def _operation(build: Callable[P, Call[T]]) -> Callable[Concatenate["Client", P], T]:
    def send(client: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return client._send(build(*args, **kwargs))

    as_method(send, build)
    return send


def _stream(build: Callable[P, Call[None]]) -> Callable[Concatenate["Client", P], Iterator[Event]]:
    def stream(client: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[Event]:
        return client._answer(build(*args, **kwargs))

    as_method(stream, build)
    return stream


class Client:
    """A connection to one Sluice, for use by one thread at a time or by several.

    The address is `url`, else the environment's SLUICE_URL, else http://127.0.0.1:8080; likewise `api_key`
    and SLUICE_API_KEY. `identity` is a signed token of who asks. `timeout` is in seconds and holds for each
    request that has none of its own. Every failure raises `SluiceError`; where nothing answers, its subclass
    `UnreachableError`. Reads and uploads (which carry an idempotency key) are repeated after a broken connection,
    and anything that the server refused with 429 when it says for how long; nothing else is sent twice.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        identity: str | None = None,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = (url or os.environ.get("SLUICE_URL") or wire.DEFAULT_URL).rstrip("/")
        self._timeout = timeout
        self._http = httpx.Client(
            base_url=self.url,
            headers=wire.headers(api_key, identity),
            transport=transport,
            trust_env=not wire.is_loopback(self.url),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def close(self) -> None:
        """Close the connections; the client is of no use afterwards."""
        self._http.close()

    query = _operation(calls.query)
    stream = _stream(calls.stream_query)
    collection_page = _operation(calls.collection_page)
    collection = _operation(calls.collection)
    create_collection = _operation(calls.create_collection)
    delete_collection = _operation(calls.delete_collection)
    upload = _operation(calls.upload)
    add_texts = _operation(calls.add_texts)
    document_page = _operation(calls.document_page)
    document = _operation(calls.document)
    permit = _operation(calls.permit)
    delete_documents = _operation(calls.delete_documents)
    registered_models = _operation(registry_calls.registered_models)
    registered_model = _operation(registry_calls.registered_model)
    import_model = _operation(registry_calls.import_model)
    delete_model = _operation(registry_calls.delete_model)
    releases = _operation(release_calls.releases)
    release = _operation(release_calls.release)
    create_release = _operation(release_calls.create_release)
    delete_release = _operation(release_calls.delete_release)
    promote_release = _operation(release_calls.promote_release)
    rollback_release = _operation(release_calls.rollback_release)
    set_release_alias = _operation(release_calls.set_release_alias)
    remove_release_alias = _operation(release_calls.remove_release_alias)
    release_lineage = _operation(release_calls.release_lineage)
    answer_lineage = _operation(release_calls.answer_lineage)
    import_release = _operation(release_calls.import_release)
    release_statement = _operation(release_calls.release_statement)
    submit_job = _operation(job_calls.submit_job)
    train = _operation(job_calls.train)
    sweep = _operation(job_calls.sweep)
    tune = _operation(job_calls.tune)
    make_dataset = _operation(job_calls.make_dataset)
    dataset = _operation(job_calls.dataset)
    jobs = _operation(job_calls.jobs)
    job = _operation(job_calls.job)
    job_spec = _operation(job_calls.job_spec)
    job_audit = _operation(job_calls.job_audit)
    job_steps = _operation(job_calls.job_steps)
    job_artifacts = _operation(job_calls.job_artifacts)
    evaluation = _operation(job_calls.evaluation)
    cancel_job = _operation(job_calls.cancel_job)
    retry_job = _operation(job_calls.retry_job)
    artifact = _operation(job_calls.artifact)
    put_artifact = _operation(job_calls.put_artifact)
    delete_artifact = _operation(job_calls.delete_artifact)
    schedules = _operation(job_calls.schedules)
    schedule = _operation(job_calls.schedule)
    create_schedule = _operation(job_calls.create_schedule)
    delete_schedule = _operation(job_calls.delete_schedule)
    pause_schedule = _operation(job_calls.pause_schedule)
    resume_schedule = _operation(job_calls.resume_schedule)
    trigger_schedule = _operation(job_calls.trigger_schedule)
    runs = _operation(run_calls.runs)
    run = _operation(run_calls.run)
    run_metrics = _operation(run_calls.run_metrics)
    create_key = _operation(key_calls.create_key)
    keys = _operation(key_calls.keys)
    key = _operation(key_calls.key)
    rotate_key = _operation(key_calls.rotate_key)
    revoke_key = _operation(key_calls.revoke_key)
    give_feedback = _operation(feedback_calls.give_feedback)
    feedback = _operation(feedback_calls.feedback)
    kept_answers = _operation(feedback_calls.kept_answers)
    kept_answer = _operation(feedback_calls.kept_answer)
    delete_answer = _operation(feedback_calls.delete_answer)
    comparisons = _operation(feedback_calls.comparisons)
    export_reader = _operation(feedback_calls.export_reader)
    erase_reader = _operation(feedback_calls.erase_reader)
    payloads = _operation(payload_calls.payloads)
    status = _operation(calls.status)
    usage = _operation(calls.usage)
    trace = _operation(calls.trace)
    models = _operation(calls.models)
    pipelines = _operation(calls.pipelines)
    routes = _operation(calls.routes)
    route = _operation(calls.route)
    set_route = _operation(calls.set_route)
    delete_route = _operation(calls.delete_route)
    dead_letters = _operation(calls.dead_letters)
    dead_letter = _operation(calls.dead_letter)
    replay_dead_letter = _operation(calls.replay_dead_letter)
    discard_dead_letter = _operation(calls.discard_dead_letter)

    def collections(self) -> list[Collection]:
        """All collections, by name."""
        found: Listing[Collection] = Listing()
        after: str | None = None
        while True:
            page = self.collection_page(after=after, limit=500)
            found += page.collections
            if page.next is None:
                return found
            after = page.next

    def documents(self, collection: str, *, prefix: str | None = None) -> Iterator[Document]:
        """All documents of a collection whose names begin with `prefix`, page by page."""
        after: str | None = None
        while True:
            page = self.document_page(collection, prefix=prefix, after=after, limit=500)
            yield from page.documents
            if page.next is None:
                return
            after = page.next

    def watch(self, job_id: str, *, patience: float = OUTAGE_LIMIT, progress: bool = True) -> Iterator[Job]:
        """Yield the job as it stands, then at every change, last in its final state.

        Lost connections are made again, until nothing has answered for `patience` seconds. A notebook shows the
        progress below the cell, unless `progress` is False.
        """
        policy, show = ReconnectPolicy(patience), job_display(progress)
        while True:
            try:
                current = self.job(job_id)
                policy.heard()
                show(current)
                yield current
                if current.finished:
                    return
                for sse in self._events(job_calls.job_events(job_id, silence=SILENCE)):
                    policy.heard()
                    if (changed := update(sse)) is not None:
                        show(changed)
                        yield changed
                        if changed.finished:
                            return
                time.sleep(RECONNECT_DELAY)
            except SluiceError as error:
                time.sleep(policy.pause(error))

    def compare_runs(self, *run_ids: str) -> RunComparison:
        """Experiment runs beside each other: what differs in their parameters and versions, and their metrics.

        Raises ValueError for fewer than two.
        """
        return compare([self.run(one) for one in run_ids])

    def wait(self, job_id: str, *, timeout: float | None = None, progress: bool = True) -> Job:
        """Wait for a job to end, in whatever state, and return it; `TimeoutError` after `timeout` seconds.

        The time-out is noticed at the job's next change, or within 15 seconds where nothing changes. A notebook shows
        the progress below the cell, unless `progress` is False.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        for current in self.watch(job_id, progress=progress):
            if current.finished:
                return current
            if deadline is not None and time.monotonic() > deadline:
                break
        raise TimeoutError(f"job {job_id} did not end within {timeout} s")

    def save_artifact(self, name: str, path: Path) -> int:
        """Write a file of jobs, called `<job or folder>/<file>`, to disk. Returns its size in bytes."""
        return self._save(job_calls.artifact(name), path)

    def save_model(self, name: str, path: Path) -> int:
        """Write a model as a tar archive to disk. Returns its size in bytes."""
        return self._save(registry_calls.model_content(name), path)

    def save_release(self, name: str, path: Path, *, format: str = "tar", signatures: Sequence[str] = ()) -> int:  # noqa: A002
        """Write a release to disk, with signatures of its statement. Returns its size in bytes.

        `format` is `tar` for an archive with checksums, `oci` for a folder with an OCI image layout, which must not be
        there yet, or `oci-archive` for a tar archive of one.
        """
        with release_calls.release_target(path, format) as (asked, file):
            return self._save(release_calls.release_content(name, format=asked, signatures=signatures), file)

    def _save(self, call: Call[bytes], path: Path) -> int:
        arguments = wire.request_arguments(call, self._timeout)
        size = 0
        try:
            with self._http.stream(**arguments) as response:
                if not response.is_success:
                    response.read()
                    raise wire.problem_of(response)
                with path.open("wb") as file:
                    for piece in response.iter_bytes():
                        size += file.write(piece)
        except httpx.TransportError as error:
            raise wire.fault(error, self.url) from error
        return size

    def _send(self, call: Call[T]) -> T:
        for attempt in range(wire.RETRIES + 1):
            try:
                response = self._http.request(**wire.request_arguments(call, self._timeout))
            except httpx.TransportError as error:
                if (delay := wire.pause(call, attempt, error)) is None:
                    raise wire.fault(error, self.url) from error
            else:
                if response.is_success or (delay := wire.pause(call, attempt, response)) is None:
                    return wire.result(call, response)
            time.sleep(delay)
        raise AssertionError("the last attempt always returns or raises")

    def _events(self, call: Call[Any]) -> Iterator[ServerSentEvent]:
        arguments = wire.request_arguments(call, self._timeout)
        arguments["headers"] |= {"Accept": "text/event-stream"}
        try:
            with self._http.stream(**arguments) as response:
                if not response.is_success:
                    response.read()
                    raise wire.problem_of(response)
                yield from EventSource(response).iter_sse()
        except SSEError as error:  # before its base class
            raise wire.not_a_stream(self.url) from error
        except httpx.TransportError as error:
            raise wire.fault(error, self.url) from error

    def _answer(self, call: Call[Any]) -> Iterator[Event]:
        for sse in self._events(call):
            if (event := wire.event(sse)) is not None:
                yield event
                if isinstance(event, Done):
                    return
        raise wire.cut_short()
