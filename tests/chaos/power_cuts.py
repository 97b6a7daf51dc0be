"""The power fails again and again while documents are uploaded, replaced and deleted.

`sluice up` runs on a disk of its own (`tests.harness.volatile_disk`). At a random moment all its processes stop, the
disk loses what was not synced, and the machine starts again. Then everything that was acknowledged must be there.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import lancedb

from tests.chaos.ledger import GONE, Ledger
from tests.harness.platform import Platform, eventually
from tests.harness.volatile_disk import VolatileDisk, next_boot

__all__ = ["Cuts", "power_cuts"]

COLLECTION: Final = "docs"
WRITERS: Final = 4
PATIENCE: Final = 120.0
ACTIVE: Final = ("queued", "running", "queued")
"""States of jobs that go on. One that runs may be put off between two looks."""

SAMPLE: Final = 10
"""Documents of earlier times that each start is asked for, besides all of the last time."""

EARLY: Final = 0.15
"""How often the power fails once more while the platform starts, and seconds after which it does then."""
EARLY_SECONDS: Final = (0.2, 8.0)

MOUNTS: Final = (
    "noatime",
    "noatime,commit=1,data=writeback,noauto_da_alloc",
    "noatime,commit=600,noauto_da_alloc",
)
"""What was not synced is lost for up to five seconds; names are there and contents are not; nothing is there."""


@dataclass
class Cuts:
    """What came of it."""

    wrong: list[str] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    """Seconds until all services were ready."""
    accepted: list[int] = field(default_factory=list)
    """Requests that were acknowledged before each cut."""
    early: int = 0
    unsure: int = 0
    documents: int = 0
    jobs: int = 0
    set_aside: int = 0
    """Versions of the index that were set aside."""

    def summary(self) -> dict[str, Any]:
        return {**self.__dict__, "starts": [round(seconds, 2) for seconds in self.starts]}


def power_cuts(disk: VolatileDisk, seed: int, cuts: int, told: Callable[[str], None] = lambda _: None) -> Cuts:
    """Cut the power so many times under load. Everything that was started has ended, whatever happens."""
    return _PowerCuts(disk, seed, told).run(cuts)


class _PowerCuts:
    def __init__(self, disk: VolatileDisk, seed: int, told: Callable[[str], None]) -> None:
        self._disk = disk
        self._dice = random.Random(seed)
        self._told = told
        self._boots = 0
        self._ledger = Ledger()
        self._cuts = Cuts()
        self._platform = Platform(disk.folder, log_level="WARNING", reader_workers=1)
        self._outside = disk.folder.parent

    def run(self, cuts: int) -> Cuts:
        try:
            for number in range(cuts):
                self._start()
                self._verify()
                self._load_until_cut()
                if self._cuts.wrong:
                    return self._cuts
                self._told(f"cut {number + 1}: {self._cuts.accepted[-1]} accepted, wrong: {self._cuts.wrong[-3:]}")
            self._start()
            self._verify(everything=True)
            self._platform.stop()
            self._check_rows()
        finally:
            if self._platform.is_running:
                self._platform.freeze_and_kill(lambda: None)
        self._cuts.unsure, self._cuts.jobs = self._ledger.unsure, len(self._ledger.jobs)
        self._cuts.documents = sum(fate.told != GONE for fate in self._ledger.fates.values())
        return self._cuts

    def _start(self) -> None:
        self._boot()
        while self._dice.random() < EARLY:
            self._platform.launch()
            time.sleep(self._dice.uniform(*EARLY_SECONDS))
            self._cut()
            self._cuts.early += 1
            self._boot()
        began = time.monotonic()
        self._platform.start()
        self._cuts.starts.append(time.monotonic() - began)

    def _boot(self) -> None:
        self._boots += 1
        self._platform.before = next_boot(self._boots, self._outside, self._disk)

    def _cut(self) -> None:
        self._platform.freeze_and_kill(self._disk.cut)
        self._disk.restore(self._dice.choice(MOUNTS))

    def _load_until_cut(self) -> None:
        """Cut the power a moment after a random number of acknowledgements."""
        wanted, delay = self._dice.randrange(1, 60), self._dice.uniform(0.0, 0.3)
        before, stop = self._ledger.told, threading.Event()
        writers = [
            _Writer(f"w{n}", self._platform.url, self._ledger, self._dice.randrange(2**32)) for n in range(WRITERS)
        ]
        threads = [threading.Thread(target=writer.run, args=(stop,)) for writer in writers]
        for thread in threads:
            thread.start()
        try:
            eventually(lambda: self._ledger.told - before >= wanted, f"{wanted} acknowledgements", PATIENCE)
            time.sleep(delay)
        finally:
            stop.set()
            self._cut()
            for thread in threads:
                thread.join()
        self._cuts.accepted.append(self._ledger.told - before)
        self._cuts.wrong += [wrong for writer in writers for wrong in writer.wrong]

    def _verify(self, *, everything: bool = False) -> None:
        with httpx.Client(base_url=self._platform.url, trust_env=False, timeout=60) as client:
            if not self._boots_before():
                client.post("/v1/collections", json={"name": COLLECTION}).raise_for_status()
                return
            eventually(lambda: self._is_idle(client), "the end of all jobs", PATIENCE)
            wrong = self._judge_jobs(client, self._ledger.jobs if everything else self._ledger.fresh_jobs)
            found = _documents(client)
            wrong += self._ledger.judge(found)
            old = sorted(self._ledger.fates.keys() - self._ledger.fresh)
            asked = self._ledger.fates.keys() if everything else self._ledger.fresh
            asked = {*asked, *self._dice.sample(old, k=min(SAMPLE, len(old)))}
            self._ledger.settle(found)
            wrong += [text for name in sorted(asked) if (text := self._ask(client, name))]
        self._cuts.set_aside += int(self._platform.metric("retriever", "sluice_index_versions_set_aside_total"))
        self._cuts.wrong += [f"after start {len(self._cuts.starts)}: {text}" for text in wrong]

    def _is_idle(self, client: httpx.Client) -> bool:
        """Whether all jobs have ended, also those on the queue that nobody was told of and that have no entry yet."""
        told = self._platform.metric("gateway", "sluice_broker_up")
        queue = ("sluice_jobs_waiting", "sluice_jobs_in_work")
        return bool(told) and not any(self._platform.metric("gateway", name) for name in queue) and not _active(client)

    def _boots_before(self) -> bool:
        return bool(self._cuts.accepted)

    def _judge_jobs(self, client: httpx.Client, jobs: Iterable[str]) -> list[str]:
        wrong = []
        for job in sorted(jobs):
            response = client.get(f"/v1/jobs/{job}")
            state = response.json()["state"] if response.status_code == 200 else f"answered {response.status_code}"
            if state != "succeeded":
                wrong.append(f"job {job}: {response.text[:300]}")
            wrong += [text] if (text := self._ledger.seen(job, state)) else []
        return wrong

    def _ask(self, client: httpx.Client, name: str) -> str:
        """What is wrong with what a query finds of a document."""
        text = self._ledger.fates[name].told
        body = {"question": f"What is the code of the lamp {name}?", "collection": COLLECTION, "top_k": 5}
        response = client.post("/v1/query", json=body)
        if response.status_code != 200:
            return f"a query for {name}: {response.text[:300]}"
        texts = [source["text"] for source in response.json()["sources"] if f"lamp {name} " in source["text"]]
        return "" if texts == ([text] if text else []) else f"a query for {name} finds {texts}, and not {text!r}"

    def _check_rows(self) -> None:
        """Each document is in the index once."""
        database = lancedb.connect(self._platform.data / "index")
        rows: Counter[str] = Counter()
        for table in database.table_names(limit=1000):
            if table.startswith(COLLECTION):
                found = database.open_table(table).search().where("position IS NOT NULL").select(["text"])
                rows.update(row["text"] for row in found.limit(1_000_000).to_list())
        wanted = Counter(fate.told for fate in self._ledger.fates.values() if fate.told)
        self._cuts.wrong += [
            f"{count} rows more or less in the index: {text}" for text, count in (rows - wanted).items()
        ]
        self._cuts.wrong += [
            f"{count} rows are missing in the index: {text}" for text, count in (wanted - rows).items()
        ]


class _Writer:
    """One client that sends one request after the other, about documents of its own."""

    def __init__(self, name: str, url: str, ledger: Ledger, seed: int) -> None:
        self._name = name
        self._url = url
        self._ledger = ledger
        self._dice = random.Random(seed)
        self._busy: set[str] = set()
        self.wrong: list[str] = []

    def run(self, stop: threading.Event) -> None:
        with httpx.Client(base_url=self._url, trust_env=False, timeout=30) as client:
            while not stop.is_set():
                try:
                    self._one(client)
                except httpx.TransportError:
                    return

    def _look(self, client: httpx.Client) -> None:
        """Be told the state of a job: from then on it may not go back."""
        job = self._dice.choice(list(self._ledger.jobs))
        response = client.get(f"/v1/jobs/{job}")
        if response.status_code == 200:
            self.wrong += [text] if (text := self._ledger.seen(job, response.json()["state"])) else []
        elif response.status_code != 503:
            self.wrong.append(f"job {job} is lost: {response.status_code} {response.text[:200]}")

    def _one(self, client: httpx.Client) -> None:
        if self._ledger.jobs and self._dice.random() < 0.2:
            self._look(client)
        every = list(self._ledger.fates)  # others add theirs meanwhile
        mine = [name for name in every if name.startswith(f"{self._name}-") and name not in self._busy]
        old = [name for name in mine if self._ledger.fates[name].told]
        if len(old) > 3 and self._dice.random() < 0.15:
            self._send(client, dict.fromkeys(self._dice.sample(old, k=self._dice.randint(1, 2)), GONE))
            return
        count = self._dice.randint(1, 3)
        if old and self._dice.random() < 0.3:
            names = self._dice.sample(old, k=min(count, len(old)))
        else:
            names = [f"{self._name}-{len(mine) + len(self._busy) + n}" for n in range(count)]
        self._send(client, {name: self._text(name) for name in names})

    def _text(self, name: str) -> str:
        return f"The code of the lamp {name} is K{self._dice.randrange(10**9):09}."

    def _send(self, client: httpx.Client, texts: dict[str, str]) -> None:
        self._ledger.sending(texts)
        # Until it is known what became of them, nothing else is done to these documents.
        self._busy |= texts.keys()
        path = f"/v1/collections/{COLLECTION}/documents"
        if GONE in texts.values():
            response = client.delete(path, params=[("name", name) for name in texts])
        else:
            files = [("files", (name, text.encode(), "text/plain")) for name, text in texts.items()]
            response = client.post(path, files=files)
        if response.status_code == 202:
            self._ledger.accepted(texts, response.json()["job"]["id"])
            self._busy -= texts.keys()
        elif response.status_code not in (429, 503):
            self.wrong.append(f"a request was refused: {response.status_code} {response.text[:200]}")


def _active(client: httpx.Client) -> bool:
    return any(client.get("/v1/jobs", params={"state": state, "limit": 1}).json()["jobs"] for state in ACTIVE)


def _documents(client: httpx.Client) -> dict[str, str]:
    """The SHA-256 of each document that is listed."""
    found: dict[str, str] = {}
    after = ""
    while True:
        params: dict[str, str | int] = {"limit": 1000, "after": after}
        page = client.get(f"/v1/collections/{COLLECTION}/documents", params=params).raise_for_status().json()
        found |= {document["name"]: document["sha256"] for document in page["documents"]}
        if not page["next"]:
            return found
        after = page["next"]
