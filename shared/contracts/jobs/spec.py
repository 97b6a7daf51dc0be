"""What every kind of job declares: its members, the action that it requires, and its outputs."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import ConfigDict, Field

from shared.contracts.keys import Action
from shared.contracts.wire import Wire

__all__ = ["JobSpec", "RetryPolicy", "SpecPart"]


class SpecPart(Wire):
    """A spec or a part of one. A misspelt member is an error where a person writes it: see `decode_spec`."""

    model_config = ConfigDict(extra="forbid")


class JobSpec(SpecPart):
    """What a job is to do. Each kind is a subclass in its own module of `shared.contracts.jobs.kinds`."""

    kind: str

    required_action: ClassVar[Action | None] = None
    """What an API key needs to submit such a job, besides `jobs`."""

    step_outputs: ClassVar[Mapping[str, str] | None] = None
    """The outputs that later steps of a pipeline may read, with their types: number, text or boolean. None: any.

    An output may be absent where it means nothing, such as `answer_f1` without expected answers. A step that reads
    an absent output fails, and the error lists those that exist.
    """

    reads_feedback: ClassVar[bool] = False
    """Whether such a job may hold what readers said, so that what it makes is for those who see everybody's feedback,
    where its submitter does."""

    is_step: ClassVar[bool] = True
    """Whether a step of a pipeline may be such a job."""

    has_children: ClassVar[bool] = False
    """Whether such a job submits others, which are cancelled with it."""

    is_run: ClassVar[bool] = False
    """Whether such a job is an experiment run, which is compared with others by its parameters and metrics."""

    main_metrics: ClassVar[tuple[str, ...]] = ()
    """Of an experiment run: the outputs that say how good it is, the one to compare by first."""

    input_files: ClassVar[Mapping[str, str]] = {}
    """Of an experiment run: members that name a job, and the file of that job that is read."""

    @property
    def folders(self) -> tuple[str, ...]:
        """The jobs and uploads whose files it reads without naming each file."""
        return ()


class RetryPolicy(SpecPart):
    """How often a job is tried, and how long it rests between: `delay` seconds, twice as long each time, at most
    `max_delay`, each between half and the whole of it by chance."""

    limit: int = Field(5, ge=1, le=100)
    delay: float = Field(1.0, gt=0, le=3600)
    max_delay: float = Field(300.0, gt=0, le=86400)
