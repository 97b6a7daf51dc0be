"""The controls of a graph, as stops of a slip: a stop of the stage `graph`, its variant the control's name.

No worker serves the stage `graph`. Whoever is about to forward an envelope resolves such a stop first; a service that
does not know it forwards it to a queue from which nobody takes, so that it is never misread.
"""

from typing import Final

from pydantic import ValidationError

from shared.contracts.envelope import Stop
from shared.contracts.problems import Problem, ProblemDetails, ProblemType
from shared.contracts.wire import Wire

__all__ = [
    "CONTROLS",
    "GRAPH",
    "Branch",
    "Cache",
    "Case",
    "Control",
    "Ensemble",
    "Fallback",
    "Join",
    "Keep",
    "Loop",
    "Otherwise",
    "Refuse",
    "Share",
    "Splitter",
    "Switch",
    "control_of",
]

GRAPH: Final = "graph"
"""The stage of stops that are controls."""

Steps = tuple[Stop, ...]


class Control(Wire):
    """What decides on the stops that come next."""

    @classmethod
    def kind(cls) -> str:
        return cls.__name__.lower()

    def stop(self) -> Stop:
        return Stop(stage=GRAPH, variant=self.kind(), params=self.model_dump(mode="json", exclude_defaults=True))


class Case(Wire):
    """Stops for where a condition holds."""

    when: str
    then: Steps = ()


class Switch(Control):
    """The first case whose condition holds, else the default."""

    cases: tuple[Case, ...]
    default: Steps = ()


class Share(Wire):
    """Stops for a share of the queries; the weight is relative to the sum of all."""

    weight: float
    then: Steps = ()


class Splitter(Control):
    """One of the shares, drawn by the query's id. `salt` keeps two splitters of one pipeline apart."""

    shares: tuple[Share, ...]
    salt: str = ""


class Loop(Control):
    """The steps, once at least and until the condition holds, at most `times`. `done` rounds are over."""

    steps: Steps
    times: int
    until: str = ""
    done: int = 0


class Fallback(Control):
    """The steps; the others where one of them fails, or where they take longer than `seconds`."""

    steps: Steps
    otherwise: Steps
    seconds: float | None = None


class Otherwise(Control):
    """Ends the steps of a fallback in a slip. `until` is the Unix time until which they may take."""

    steps: Steps = ()
    until: float | None = None


class Branch(Wire):
    """Stops of an ensemble, which may take so many `seconds`."""

    name: str
    then: Steps = ()
    seconds: float | None = None


class Ensemble(Control):
    """All branches at once. `quorum` of them must succeed, 0 meaning all; where `early`, the query goes on as soon as
    they have, otherwise when every branch has ended."""

    branches: tuple[Branch, ...]
    quorum: int = 0
    early: bool = False


class Join(Control):
    """Ends the steps of a branch in its slip. `record` is the key of what is known of the ensemble, `until` the Unix
    time until which the branch may take, and `failed` how it has ended, where it did not come to its end: `at` this
    stage and variant."""

    record: str
    branch: str
    until: float | None = None
    failed: ProblemDetails | None = None
    at: dict[str, str] = {}


class Cache(Control):
    """The steps, or what they added to an envelope like this one in the last `seconds`. `key` is an expression whose
    value says which envelopes are alike; without one, all that the steps can see does."""

    steps: Steps
    seconds: float
    key: str = ""


class Keep(Control):
    """Ends the steps of a cache in a slip: what they have added since `before`, digests of the envelope's members, is
    kept under this `record`."""

    record: str
    seconds: float
    before: dict[str, str] = {}


class Refuse(Control):
    """Ends the query with a problem that says this."""

    reason: str


CONTROLS: Final[dict[str, type[Control]]] = {
    each.kind(): each for each in (Switch, Splitter, Loop, Fallback, Otherwise, Ensemble, Join, Cache, Keep, Refuse)
}


def control_of(stop: Stop) -> Control | None:
    """The control that a stop is; None for a stage. Raises Problem STAGE_FAILED for one of a newer version."""
    if stop.stage != GRAPH:
        return None
    try:
        return CONTROLS[stop.variant].model_validate(stop.params)
    except (KeyError, ValidationError) as error:
        raise Problem(
            ProblemType.STAGE_FAILED,
            f"The pipeline's step '{stop.variant}' is not understood by this version. Upgrade all services first.",
        ) from error
