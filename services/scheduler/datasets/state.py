"""How far a job of the kind `dataset` is, and what it has mined: in parts, so that no part is mined or held twice."""

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter

from services.scheduler.datasets.examples import Example
from services.scheduler.datasets.rows import Mined
from services.scheduler.datasets.split import Split
from services.scheduler.jobs.job_context import JobContext
from shared.stores.artifacts import Artifacts

__all__ = ["PART", "DatasetState", "Parts", "digest_of"]

PART: Final = 100
"""Examples that are mined, saved and written at once."""

FORMAT: Final = b"answers"
"""Changes with what is kept of an example, so that parts of an older version are not read."""

_mined: TypeAdapter[list[Mined]] = TypeAdapter(list[Mined])


class DatasetState(BaseModel):
    """The checkpoint. Decided by the first try: the id of the `collection` and the `version` whose passages are taken.
    `parts` are done, of the examples with this digest."""

    model_config = ConfigDict(frozen=True)

    collection: str
    version: str
    examples: str = ""
    parts: int = 0


class Parts:
    """What a job has mined, as artifacts of its own that go at its end."""

    def __init__(self, artifacts: Artifacts, context: JobContext) -> None:
        self._artifacts = artifacts
        self._tenant, self._job = context.tenant, context.job.id

    async def put(self, number: int, mined: Sequence[Mined]) -> None:
        data = _mined.dump_json(list(mined), exclude_defaults=True)
        await self._artifacts.put(self._tenant, self._name(number), data)

    async def read(self, count: int) -> AsyncIterator[list[Mined]]:
        """The parts in their order, one in memory at a time."""
        for number in range(count):
            yield _mined.validate_json(await self._artifacts.get(self._tenant, self._name(number)))

    async def remove(self, count: int) -> None:
        for number in range(count):
            await self._artifacts.delete(self._tenant, self._name(number))

    def _name(self, number: int) -> str:
        return f"{self._job}/part-{number:05}.json"


def digest_of(split: Split) -> str:
    """The same for the same examples on the same sides: a hash of all that mining goes by."""
    found = hashlib.sha256(FORMAT)
    for side in (split.train, split.test):
        found.update(b"side\n")
        for line in _lines(side):
            found.update(line)
    for document in sorted(split.test_documents):
        found.update(f"{document}\n".encode())
    return found.hexdigest()


_examples: TypeAdapter[Example] = TypeAdapter(Example)


def _lines(side: Iterable[tuple[Example, str]]) -> Iterable[bytes]:
    for example, group in side:
        yield _examples.dump_json(example) + group.encode() + b"\n"
