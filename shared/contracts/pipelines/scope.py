"""The names that a pipeline's expressions may use, and what stands behind them.

    parameters.<name>           the pipeline's parameters
    <step>.<output>             an output of a step, also steps.<step>.outputs.<output>
    <step>.state                succeeded, failed or skipped
    <step>.job                  the id of the step's job
    <step>.artifacts['<file>']  the name of an artifact of the step, as specs take it
    item, index                 in a step with `each`: the item of the list and its number, from 0
    pipeline.id, pipeline.name  of the pipeline

A step with `each` has a list in place of each output, job and artifact, in the order of the items.
"""

import keyword
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from shared.contracts.jobs import KINDS, PipelineSpec, PipelineStep
from shared.contracts.pipelines.expressions import FUNCTIONS, LITERALS, ExpressionError, Reference
from shared.contracts.pipelines.types import Kind, kind_of

__all__ = ["RESERVED", "Names", "StepMember", "listed"]

MOST_LISTED: Final = 20
"""Names that a message lists."""

PIPELINE: Final[Mapping[str, Kind]] = {"id": Kind.TEXT, "name": Kind.TEXT}
ABOUT: Final[Mapping[str, Kind]] = {
    "state": Kind.TEXT,
    "job": Kind.TEXT,
    "artifacts": Kind.OBJECT,
    "outputs": Kind.OBJECT,
}

RESERVED: Final = frozenset(
    {"parameters", "steps", "pipeline", "item", "index", *LITERALS, *FUNCTIONS, *keyword.kwlist}
)
"""Names that no step can have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMember:
    """What a reference reads of a step. `state` alone can be read of a step that has not succeeded."""

    step: str
    member: str
    rest: Reference

    @property
    def of_success(self) -> bool:
        return self.member != "state"


class Names:
    """The names of one pipeline; `looped` where `item` and `index` are among them."""

    def __init__(self, spec: PipelineSpec, *, looped: bool = False) -> None:
        self._spec = spec
        self._looped = looped

    def step(self, reference: Reference) -> StepMember | None:
        """What a reference reads of a step; None for other names. Raises ExpressionError for a step without member."""
        steps = self._spec.steps
        name, *members = reference
        if name == "steps":
            if not members or members[0] not in steps:
                known = listed(steps)
                raise ExpressionError(f"there is no step '{members[0] if members else ''}'; the steps are {known}")
            name, *members = members
            if members and members[0] not in ABOUT:
                raise ExpressionError(f"write steps.{name}.outputs.{members[0]}, or {name}.{members[0]}")
        elif name not in steps:
            return None
        if not members:
            raise ExpressionError(f"'{name}' is a step: name an output of it, such as {name}.{self._example(name)}")
        if members[0] == "outputs" and len(members) > 1:
            del members[0]
        return StepMember(step=name, member=members[0], rest=tuple(members[1:]))

    def kind(self, reference: Reference) -> Kind:
        """What kind of value stands behind a reference. Raises ExpressionError for a name that is not known."""
        found = self.step(reference)
        if found is not None:
            return self._of_step(found)
        name, *members = reference
        match name:
            case "parameters":
                return self._parameter(members)
            case "pipeline":
                if len(members) != 1 or members[0] not in PIPELINE:
                    raise ExpressionError("of the pipeline there are pipeline.id and pipeline.name")
                return PIPELINE[members[0]]
            case "item" | "index" if self._looped:
                return Kind.NUMBER if name == "index" else Kind.ANY
            case "item" | "index":
                raise ExpressionError(f"'{name}' is known in the job of a step with `each` only")
        raise ExpressionError(
            f"there is no '{name}': known are parameters, pipeline, and the steps {listed(self._spec.steps)}"
        )

    def _parameter(self, members: list[str]) -> Kind:
        parameters = self._spec.parameters
        if not members or members[0] not in parameters:
            known = listed(parameters) or "none"
            wanted = f" '{members[0]}'" if members else ""
            raise ExpressionError(f"there is no parameter{wanted}; the parameters are: {known}")
        return kind_of(parameters[members[0]]) if len(members) == 1 else Kind.ANY

    def _of_step(self, found: StepMember) -> Kind:
        step = self._spec.steps[found.step]
        looped = step.each is not None
        if found.member in ABOUT:
            if found.rest:
                return Kind.TEXT if found.member == "artifacts" and not looped else Kind.ANY
            return Kind.LIST if looped and found.member != "state" else ABOUT[found.member]
        outputs = _outputs(step)
        if outputs is None:
            return Kind.LIST if looped and not found.rest else Kind.ANY
        if found.member not in outputs:
            known = ", ".join((*outputs, "state", "job", "artifacts"))
            raise ExpressionError(f"the step '{found.step}' has no output '{found.member}'; it has {known}")
        return Kind.ANY if found.rest else Kind.LIST if looped else Kind[outputs[found.member].upper()]

    def _example(self, step: str) -> str:
        outputs = _outputs(self._spec.steps[step])
        return next(iter(outputs)) if outputs else "state"


def listed(names: Iterable[str]) -> str:
    """The names as a message shows them: the first of them, each not too long."""
    first = list(islice(names, MOST_LISTED + 1))
    return ", ".join([*(name[:64] for name in first[:MOST_LISTED]), *(["..."] if len(first) > MOST_LISTED else [])])


def _outputs(step: PipelineStep) -> Mapping[str, str] | None:
    """The outputs of a step's kind; None where they are not known."""
    spec = KINDS.get(str(step.job.get("kind")))
    return None if spec is None else spec.step_outputs
