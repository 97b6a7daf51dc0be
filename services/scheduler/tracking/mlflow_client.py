"""The part of MLflow's REST API that copies of runs need.

It is spoken directly: the `mlflow` packages pin much, block, keep their state in globals, and read settings of their
own from the environment, and a dozen requests are all there is to it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx

from services.scheduler.tracking.settings import TrackingSettings

__all__ = ["Entry", "MLflowClient", "MLflowError", "MLflowRefusedError", "MLflowUnavailableError"]

API: Final = "/api/2.0/mlflow/"
TIMEOUT: Final = httpx.Timeout(20.0, connect=5.0)
UPLOAD_TIMEOUT: Final = 120.0

AWAY: Final = frozenset({401, 403, 408, 429, 502, 503, 504})
"""Statuses that say nothing of a request: the server is away or busy, or does not accept the credential so far."""

MISSING: Final = "RESOURCE_DOES_NOT_EXIST"
THERE: Final = "RESOURCE_ALREADY_EXISTS"

MOST_METRICS, MOST_PARAMS, MOST_TAGS = 900, 100, 100
"""Of one request; the server takes 1,000 metrics, 100 parameters and 100 tags, together 1,000."""

PROXIED: Final = "mlflow-artifacts"
"""The scheme of files that go through the tracking server."""

Entry = Mapping[str, str | int | float]
"""A metric, parameter or tag as the API takes it."""


class MLflowError(Exception):
    """This request failed, and may not the next time."""


class MLflowUnavailableError(MLflowError):
    """No request can succeed now."""


class MLflowRefusedError(MLflowError):
    """The server does not take this request, however often it comes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.missing = code == MISSING
        self.exists = code == THERE


class MLflowClient:
    """A connection to a tracking server. All methods raise MLflowError."""

    def __init__(self, settings: TrackingSettings, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        assert settings.mlflow_uri is not None
        self._base = settings.mlflow_uri
        self._authorization = settings.mlflow_authorization
        self._http = httpx.AsyncClient(
            timeout=TIMEOUT,
            transport=transport,
            # A proxy of the machine has no way to a server on it.
            trust_env=urlsplit(self._base).hostname not in ("127.0.0.1", "localhost", "::1"),
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def experiment(self, name: str) -> str:
        """The id of an experiment, which is made where there is none."""
        try:
            return await self._experiment(name)
        except MLflowRefusedError as error:
            if not error.missing:
                raise
        try:
            return str((await self.call("POST", "experiments/create", json={"name": name}))["experiment_id"])
        except MLflowRefusedError as error:
            if not error.exists:
                raise
            return await self._experiment(name)  # somebody else has made it meanwhile

    async def _experiment(self, name: str) -> str:
        found = await self.call("GET", "experiments/get-by-name", params={"experiment_name": name})
        return str(found["experiment"]["experiment_id"])

    async def runs_with(self, experiment: str, tag: str, value: str) -> list[str]:
        """The ids of the runs with a tag, the oldest first."""
        body = {
            "experiment_ids": [experiment],
            "filter": f"tags.`{tag}` = '{value}'",
            "order_by": ["attributes.start_time ASC"],
            "max_results": 10,
        }
        found = await self.call("POST", "runs/search", json=body)
        return [str(run["info"]["run_id"]) for run in found.get("runs", ())]

    async def create_run(self, experiment: str, name: str, start: float, tags: Sequence[Entry]) -> str:
        body = {"experiment_id": experiment, "run_name": name, "start_time": _milliseconds(start), "tags": list(tags)}
        return str((await self.call("POST", "runs/create", json=body))["run"]["info"]["run_id"])

    async def update_run(self, run: str, status: str, end: float | None) -> None:
        ended = {} if end is None else {"end_time": _milliseconds(end)}
        await self.call("POST", "runs/update", json={"run_id": run, "status": status, **ended})

    async def delete_run(self, run: str) -> None:
        await self.call("POST", "runs/delete", json={"run_id": run})

    async def log(
        self, run: str, *, metrics: Sequence[Entry] = (), params: Sequence[Entry] = (), tags: Sequence[Entry] = ()
    ) -> None:
        """Add to a run, in as many requests as that takes. The same metric or parameter once more changes nothing."""
        for start in range(0, len(params), MOST_PARAMS):
            await self._log_batch(run, params=params[start : start + MOST_PARAMS])
        for start in range(0, len(tags), MOST_TAGS):
            await self._log_batch(run, tags=tags[start : start + MOST_TAGS])
        for start in range(0, len(metrics), MOST_METRICS):
            await self._log_batch(run, metrics=metrics[start : start + MOST_METRICS])

    async def _log_batch(self, run: str, **entries: Sequence[Entry]) -> None:
        body = {"run_id": run, **{name: list(some) for name, some in entries.items()}}
        await self.call("POST", "runs/log-batch", json=body)

    async def upload(self, run: str, file: str, data: bytes) -> bool:
        """Keep a file with a run. Returns whether the server takes files: others give them to a store of their own."""
        found = await self.call("GET", "runs/get", params={"run_id": run})
        parts = urlsplit(str(found["run"]["info"].get("artifact_uri", "")))
        if parts.scheme != PROXIED:
            return False
        path = quote(f"{parts.path.strip('/')}/{file}")
        url = f"{self._base}/api/2.0/mlflow-artifacts/artifacts/{path}"
        await self._request("PUT", url, content=data, timeout=UPLOAD_TIMEOUT)
        return True

    async def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send a request to the API, and return what it answers."""
        response = await self._request(method, f"{self._base}{API}{path}", **options)
        try:
            found: dict[str, Any] = response.json()
        except ValueError:
            raise MLflowUnavailableError(f"{self._base} does not answer as an MLflow tracking server does") from None
        return found

    async def _request(self, method: str, url: str, **options: Any) -> httpx.Response:
        try:
            authorization = self._authorization()
        except (OSError, UnicodeDecodeError) as error:
            raise MLflowUnavailableError(f"the file of its credential cannot be read: {error}") from None
        headers = {} if authorization is None else {"Authorization": authorization}
        try:
            response = await self._http.request(method, url, headers=headers, **options)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise MLflowUnavailableError(f"{type(error).__name__} {error}".strip()) from None
        if response.status_code in AWAY:
            raise MLflowUnavailableError(f"status {response.status_code}")
        if response.status_code >= 500:
            raise MLflowError(f"status {response.status_code}: {response.text[:200]}")
        if response.status_code >= 300:
            raise _refused(response)
        return response


def _refused(response: httpx.Response) -> MLflowError:
    """A refusal of MLflow's own; anything else that answers at this address is not MLflow, or not yet."""
    try:
        body = response.json()
        return MLflowRefusedError(str(body["error_code"]), str(body.get("message", ""))[:500])
    except (ValueError, KeyError, TypeError):
        return MLflowUnavailableError(f"status {response.status_code}")


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1e3)
