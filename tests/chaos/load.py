"""The load under which faults come: queries, plain and streamed, and jobs, in closed loops."""

import asyncio
import itertools
import json
import math
import time
from pathlib import Path
from typing import Any, Final

from shared.contracts.jobs import job_id
from tests.chaos.bounds import check_jobs
from tests.chaos.deployment import ADMIN, Deployment
from tests.chaos.expected_answers import POISON_JOB, SLOW
from tests.chaos.http import Connection, LostError, RefusedError
from tests.chaos.oracle import Oracle
from tests.chaos.query_client import QueryClient

__all__ = ["FLOODER", "Load", "PROBE", "TENANTS", "enrol"]

TENANTS: Final = ("red", "green", "blue")
FLOODER: Final = "flood"
PROBE: Final = "probe"
TIMEOUT: Final = 20.0
KINDS: Final = ("plain", "stream", "plain", "plain", "stream", "plain", "slow", "plain", "stream", "plain")
QUERIES_PER_JOB: Final = 7
SUBMITTERS: Final = 8
AGAIN: Final = 20
"""Each so manieth job is submitted twice with one key."""

PATIENCE: Final = 30.0
"""Seconds after the end of the load in which a job that nobody has accepted is still submitted."""

POISONED: Final = {"limit": 2, "delay": 0.1, "max_delay": 0.1}
PATIENT: Final = {"limit": 50, "delay": 0.2, "max_delay": 1.0}


class Load:
    """Clients that ask one query after the other, and submitters of jobs, for as long as it runs."""

    def __init__(self, query_client: QueryClient, oracle: Oracle, seed: int, clients: int) -> None:
        self.query_client = query_client
        self.oracle = oracle
        self.jobs: dict[str, str] = {}
        """Jobs that were accepted, and their tenants."""
        self.unsure: set[str] = set()
        """Jobs of which nobody has said whether they were accepted, when the load ended."""
        self.poisoned: set[str] = set()
        self.times: list[float] = []
        self.index = Path()
        """The folder of the index of real retrievers."""
        self._seed = seed
        self._clients = clients
        self._numbers = itertools.count(1)
        self._jobs = itertools.count(1)
        self._stop = asyncio.Event()
        self._patience = math.inf

    async def run(self) -> None:
        """Until `stop`; each query and each submission that was begun is seen to its end."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._clients):
                tasks.create_task(self._ask(number))
            for _ in range(SUBMITTERS):
                tasks.create_task(self._submit_some())

    async def prepare(self) -> None:
        """What must be there before the first question."""

    async def check(self, url: str) -> tuple[list[str], dict[str, int]]:
        """What is wrong with the jobs on a broker, once all have ended; and how many there were."""
        return await check_jobs(url, set(self.jobs), self.poisoned, self.unsure)

    def stop(self) -> None:
        self._stop.set()
        self._patience = time.monotonic() + PATIENCE

    def question(self, kind: str, tenant: str = "") -> str:
        """One that was never asked before."""
        return f"{kind} question {next(self._numbers):x} of seed {self._seed}"

    async def submit(self, document: str, tenant: str, retry: dict[str, Any]) -> str:
        """Submit a job as a client does: again with the same key until it is told that the job is taken."""
        key = f"{document}-{next(self._jobs)}"
        path, body = self.job(document, key, tenant, retry)
        headers = {**self.query_client.authorization(tenant), "idempotency-key": key}
        job = ""
        copies = 2 if int(key.rpartition("-")[2]) % AGAIN == 0 else 1
        while copies:
            if time.monotonic() > self._patience:
                self.unsure.add(job or job_id(tenant, key))
                return ""
            began = time.monotonic()
            status, answer = await self._post_job(path, body, headers)
            if status == 202:
                self.times.append(time.monotonic() - began)
                if job not in ("", answer["job"]["id"]):
                    self.oracle.accuse(f"one key made two jobs: {job} and {answer['job']['id']}")
                job = answer["job"]["id"]
                copies -= 1
            elif status not in (0, 429, 503, 507):  # 507 while the disk is full
                self.oracle.accuse(f"a job was refused: {status} {answer}")
                return job
            else:
                await asyncio.sleep(0.2)
        return job

    def job(self, document: str, key: str, tenant: str, retry: dict[str, Any]) -> tuple[str, Any]:
        """Where a job is submitted, and as what."""
        spec = {"kind": "delete", "collection": "c", "documents": [document]}
        return "/v1/jobs", {"spec": spec, "retry": retry}

    async def _ask(self, number: int) -> None:
        tenant = TENANTS[number % len(TENANTS)]
        for turn in itertools.count(number):
            if self._stop.is_set():
                return
            kind = KINDS[turn % len(KINDS)]
            await self.query_client.ask(self.question(SLOW if kind == "slow" else "a", tenant), tenant, kind, TIMEOUT)

    async def _submit_some(self) -> None:
        while not self._stop.is_set():
            if len(self.jobs) * QUERIES_PER_JOB > len(self.oracle.asked):
                await asyncio.sleep(0.02)
                continue
            tenant = TENANTS[len(self.jobs) % len(TENANTS)]
            if job := await self.submit("d", tenant, PATIENT):
                self.jobs[job] = tenant

    async def submit_poison(self) -> None:
        tenant = TENANTS[len(self.poisoned) % len(TENANTS)]
        if job := await self.submit(POISON_JOB, tenant, POISONED):
            self.poisoned.add(job)

    async def _post_job(self, path: str, body: Any, headers: dict[str, str]) -> tuple[int, Any]:
        """Status 0 where the connection was lost."""
        gateway = await self.query_client.balancer.choose()
        try:
            connection = await self.query_client.balancer.connect(gateway)
        except RefusedError:
            return 0, None
        try:
            async with asyncio.timeout(60):
                reply = await connection.send("POST", path, body, headers)
                answer = json.loads(await connection.whole(reply))
        except (LostError, TimeoutError):
            connection.close()
            return 0, None
        self.query_client.balancer.give_back(gateway, connection, reply)
        return reply.status, answer


async def enrol(deployment: Deployment) -> dict[str, str]:
    """A key for each tenant, and a collection; returns the keys once every gateway knows them."""
    keys = {}
    for tenant in (*TENANTS, FLOODER, PROBE):
        actions = ["query", "read", "write", "jobs"]
        made = await _post(
            deployment, 0, "/v1/keys", {"name": tenant, "tenant": tenant, "actions": actions}, ADMIN, {201}
        )
        keys[tenant] = made["secret"]
        for number in range(len(deployment.gateways)):
            # 409: it has the collection already.
            await _post(deployment, number, "/v1/collections", {"name": "c"}, keys[tenant], {201, 200, 409})
    return keys


async def _post(deployment: Deployment, gateway: int, path: str, body: Any, key: str, wanted: set[int]) -> Any:
    async with asyncio.timeout(60):
        while True:
            connection = await Connection.open(deployment.gateways[gateway].port)
            reply = await connection.send("POST", path, body, {"authorization": f"Bearer {key}"})
            answer = json.loads(await connection.whole(reply))
            connection.close()
            if reply.status in wanted:
                return answer
            if reply.status not in (401, 503):
                raise RuntimeError(f"{path}: {reply.status} {answer}")
            await asyncio.sleep(0.05)
