"""What a run is noted to run with, as it starts: the code, the data, the trace."""

import logging
from hashlib import sha256
from itertools import islice
from typing import Final

from nats.errors import Error as NatsError

from shared.contracts.jobs import CodeVersion, DatasetSpec, DataVersion, EvaluateSpec, Job, JobSpec, RunFacts
from shared.contracts.problems import Problem
from shared.stores.artifacts import Artifacts, names_in
from shared.stores.collections import Collections
from shared.stores.documents import Documents
from shared.telemetry.tracing import trace_id
from shared.version import VERSION

__all__ = ["FactRecorder"]

log = logging.getLogger(__name__)

MOST_FILES: Final = 64
"""Artifacts of one run whose digests are noted."""


class FactRecorder:
    """One per process. `revision` and `image` are those of this deployment, where it knows them."""

    def __init__(
        self,
        artifacts: Artifacts,
        collections: Collections,
        documents: Documents,
        *,
        revision: str = "",
        image: str = "",
    ) -> None:
        self._artifacts = artifacts
        self._collections = collections
        self._documents = documents
        self._code = CodeVersion(version=VERSION, revision=revision, image=image)

    async def facts(self, job: Job, spec: JobSpec) -> RunFacts | None:
        """Of a try that begins now, in its span; None for a job that is not a run.

        What cannot be found out is left out: a run need not fail for it.
        """
        if not spec.is_run:
            return None
        data = job.facts.data if job.facts else DataVersion()
        try:
            if not data.version:
                data = await self._collection(job.tenant, spec)
            data = data.model_copy(update={"files": await self._files(job.tenant, spec)})
        except (NatsError, OSError, TimeoutError) as error:
            log.warning("cannot note what the job %s reads: %r", job.id, error)
        trace = trace_id()
        return RunFacts(code=self._code, data=data, trace=trace if trace.strip("0") else "")

    async def _collection(self, tenant: str, spec: JobSpec) -> DataVersion:
        name = getattr(spec, "collection", "")
        if not name:
            return DataVersion()
        try:
            collection = await self._collections.get(tenant, name)
        except Problem:
            return DataVersion()  # the job says so itself
        # The `version` of these is the one that they read; other kinds name the one that they make.
        found = collection.find(spec.version or "") if isinstance(spec, EvaluateSpec | DatasetSpec) else None
        version = found or collection.live
        return DataVersion(
            version=version.name,
            # Who knows a table's name could ask for it, so it is not told.
            index=sha256(version.table.encode()).hexdigest()[:12],
            documents=await self._documents.revision(version.table),
        )

    async def _files(self, tenant: str, spec: JobSpec) -> dict[str, str]:
        content = spec.model_dump(mode="json")
        named = [f"{content[member]}/{file}" for member, file in spec.input_files.items() if content.get(member)]
        digests = {}
        for name in islice(dict.fromkeys([*named, *names_in(content)]), MOST_FILES):
            try:
                digests[name] = await self._artifacts.digest(tenant, name)
            except Problem:
                continue  # it only looks like an artifact, or it is not there
        return digests
