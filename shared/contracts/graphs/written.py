"""Pipelines as people write them, in YAML: a list of steps, each a stage or a control.

- embed
- {stage: retrieve, params: {top_k: 3}}
- switch:
    - {when: "best < 0.2", then: [{refuse: "Nothing in the documents is about that."}]}
  default: []
- splitter:
    - {weight: 9, then: [rerank]}
    - {weight: 1}
- loop: [retrieve, judge, rewrite]
  until: notes.enough
  times: 3
- ensemble:
    - {name: guard, then: [predict], seconds: 0.5}
    - {name: search, then: [embed, retrieve]}
  quorum: 1
- cache: [embed, retrieve]
  seconds: 300
- fallback: [generate]
  seconds: 10
  otherwise: [{stage: generate, variant: small}]
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    ValidationError,
    model_validator,
)

from shared.contracts.envelope import Name, Stop
from shared.contracts.graphs.conditions import check_condition
from shared.contracts.graphs.nodes import (
    GRAPH,
    Branch,
    Cache,
    Case,
    Ensemble,
    Fallback,
    Loop,
    Refuse,
    Share,
    Splitter,
    Switch,
    control_of,
)
from shared.contracts.graphs.size import check_size
from shared.contracts.graphs.walk import controls, depth, longest_slip, longest_trail, stages
from shared.contracts.pipelines.expressions import ExpressionError

__all__ = ["read_pipelines", "written"]

MOST_STEPS: Final = 16
"""Steps of one list."""

MOST_PARTS: Final = 16
"""Cases, shares or branches of one control."""

STREAMED: Final = "generate"
"""The stage whose answer goes to the reader piece by piece: there is one at a time."""

DEEPEST: Final = 6
"""Controls within controls."""

LONGEST_SLIP: Final = 28
"""Stops that a slip has at most on its way, so that those that a request adds find room in an envelope."""

LONGEST_TRAIL: Final = 200
"""Stages that a query visits at most."""

MOST_ROUNDS: Final = 20
LONGEST_SECONDS: Final = 86_400.0


def _condition(text: str) -> str:
    try:
        check_condition(text)
    except ExpressionError as error:
        raise ValueError(str(error)) from None
    return text


def _stage(name: str) -> str:
    if name == GRAPH:
        raise ValueError(f"'{GRAPH}' is no stage: the name is taken for steps that decide which stage comes next")
    return name


def _kind(entry: Any) -> str:
    if isinstance(entry, Mapping):
        return next((kind for kind in _KINDS if kind in entry), "stage")
    return "stage"


def _expanded(entry: Any) -> Any:
    return {"stage": entry} if isinstance(entry, str) else entry


Condition = Annotated[str, AfterValidator(_condition)]
Seconds = Annotated[float, Field(gt=0, le=LONGEST_SECONDS, allow_inf_nan=False)]


class _Entry(BaseModel, ABC):
    model_config = ConfigDict(extra="forbid")

    @abstractmethod
    def stop(self, place: str) -> Stop:
        """The step at this place of the pipeline."""


class _StageEntry(_Entry):
    stage: Annotated[Name, AfterValidator(_stage)]
    variant: Name = "default"
    params: dict[str, JsonValue] = {}

    def stop(self, place: str) -> Stop:  # noqa: ARG002
        return Stop(stage=self.stage, variant=self.variant, params=self.params)


class _CaseEntry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    when: Condition
    then: "_Steps" = []


class _SwitchEntry(_Entry):
    switch: Annotated[list[_CaseEntry], Field(min_length=1, max_length=MOST_PARTS)]
    default: "_Steps" = []

    def stop(self, place: str) -> Stop:
        cases = tuple(
            Case(when=case.when, then=_stops(case.then, f"{place}.{at}")) for at, case in enumerate(self.switch)
        )
        return Switch(cases=cases, default=_stops(self.default, f"{place}.default")).stop()


class _ShareEntry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    weight: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
    then: "_Steps" = []


class _SplitterEntry(_Entry):
    splitter: Annotated[list[_ShareEntry], Field(min_length=1, max_length=MOST_PARTS)]

    @model_validator(mode="after")
    def _some_above_zero(self) -> Self:
        if not any(share.weight for share in self.splitter):
            raise ValueError("at least one weight must be above zero")
        return self

    def stop(self, place: str) -> Stop:
        shares = tuple(
            Share(weight=share.weight, then=_stops(share.then, f"{place}.{at}"))
            for at, share in enumerate(self.splitter)
        )
        return Splitter(shares=shares, salt=place).stop()


class _LoopEntry(_Entry):
    loop: Annotated["_Steps", Field(min_length=1)]
    times: Annotated[int, Field(ge=1, le=MOST_ROUNDS)]
    until: Condition | None = None

    def stop(self, place: str) -> Stop:
        return Loop(steps=_stops(self.loop, place), times=self.times, until=self.until or "").stop()


class _FallbackEntry(_Entry):
    fallback: Annotated["_Steps", Field(min_length=1)]
    otherwise: "_Steps"
    seconds: Seconds | None = None

    def stop(self, place: str) -> Stop:
        steps, otherwise = _stops(self.fallback, place), _stops(self.otherwise, f"{place}.otherwise")
        return Fallback(steps=steps, otherwise=otherwise, seconds=self.seconds).stop()


class _BranchEntry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Name
    then: "_Steps" = []
    seconds: Seconds | None = None


class _EnsembleEntry(_Entry):
    ensemble: Annotated[list[_BranchEntry], Field(min_length=1, max_length=MOST_PARTS)]
    quorum: Annotated[int, Field(ge=1)] | None = None
    early: bool = False

    @model_validator(mode="after")
    def _can_succeed(self) -> Self:
        names = [branch.name for branch in self.ensemble]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two branches are named {', '.join(map(repr, twice))}")
        if self.quorum is not None and self.quorum > len(names):
            raise ValueError(f"a quorum of {self.quorum} is more than the {len(names)} branches")
        if self.early and self.quorum is None:
            raise ValueError("`early` needs a `quorum`: how many branches the query waits for")
        return self

    def stop(self, place: str) -> Stop:
        branches = tuple(
            Branch(name=branch.name, then=_stops(branch.then, f"{place}.{branch.name}"), seconds=branch.seconds)
            for branch in self.ensemble
        )
        return Ensemble(branches=branches, quorum=self.quorum or 0, early=self.early).stop()


class _CacheEntry(_Entry):
    cache: Annotated["_Steps", Field(min_length=1)]
    seconds: Seconds
    key: Condition | None = None

    def stop(self, place: str) -> Stop:
        return Cache(steps=_stops(self.cache, place), seconds=self.seconds, key=self.key or "").stop()


class _RefuseEntry(_Entry):
    refuse: Annotated[str, Field(min_length=1, max_length=1000)]

    def stop(self, place: str) -> Stop:  # noqa: ARG002
        return Refuse(reason=self.refuse).stop()


_KINDS: Final[Mapping[str, type[_Entry]]] = {
    "switch": _SwitchEntry,
    "splitter": _SplitterEntry,
    "loop": _LoopEntry,
    "fallback": _FallbackEntry,
    "ensemble": _EnsembleEntry,
    "cache": _CacheEntry,
    "refuse": _RefuseEntry,
}

_Step = Annotated[
    Annotated[_StageEntry, Tag("stage")]
    | Annotated[_SwitchEntry, Tag("switch")]
    | Annotated[_SplitterEntry, Tag("splitter")]
    | Annotated[_LoopEntry, Tag("loop")]
    | Annotated[_FallbackEntry, Tag("fallback")]
    | Annotated[_EnsembleEntry, Tag("ensemble")]
    | Annotated[_CacheEntry, Tag("cache")]
    | Annotated[_RefuseEntry, Tag("refuse")],
    Discriminator(_kind),
    BeforeValidator(_expanded),
]
_Steps = Annotated[list[_Step], Field(max_length=MOST_STEPS)]

_NESTED: Final[tuple[type[BaseModel], ...]] = (_CaseEntry, _ShareEntry, _BranchEntry, *_KINDS.values())
for _entry in _NESTED:
    _entry.model_rebuild()


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pipelines: dict[Name, Annotated[_Steps, Field(min_length=1)]]


def read_pipelines(value: Any) -> dict[str, tuple[Stop, ...]]:
    """The pipelines of a file's content, by name. Raises ValueError with the place of each mistake."""
    check_size(value)
    try:
        entries = _File.model_validate(value)
    except ValidationError as error:
        raise ValueError("; ".join(f"{_place(e['loc'])}: {_message(e['msg'])}" for e in error.errors())) from error
    named = {name: _stops(steps, name) for name, steps in entries.pipelines.items()}
    mistakes = [f"pipelines > {name}: {mistake}" for name, steps in named.items() for mistake in _mistakes(steps)]
    if mistakes:
        raise ValueError("; ".join(mistakes))
    return named


def _stops(entries: Sequence[_Entry], place: str) -> tuple[Stop, ...]:
    return tuple(entry.stop(f"{place}.{at}") for at, entry in enumerate(entries))


def _mistakes(steps: tuple[Stop, ...]) -> Iterable[str]:
    if (deep := depth(steps)) > DEEPEST:
        yield f"steps are nested {deep} deep; at most {DEEPEST} levels are possible"
        return
    if (slip := longest_slip(steps)) > LONGEST_SLIP:
        yield f"up to {slip} steps would be ahead of a query at once; at most {LONGEST_SLIP} are possible"
    if (trail := longest_trail(steps)) > LONGEST_TRAIL:
        yield f"a query would visit up to {trail} stages; at most {LONGEST_TRAIL} are possible. Loop fewer times"
    for branch in (branch for ensemble in controls(steps, Ensemble) for branch in ensemble.branches):
        if any(stop.stage == STREAMED for stop in stages(branch.then)):
            yield (
                f"branch '{branch.name}' has the stage '{STREAMED}', whose answer goes straight to the reader; "
                "put it after the ensemble"
            )
    for cache in controls(steps, Cache):
        if any(stop.stage == STREAMED for stop in stages(cache.steps)):
            yield f"a cache has the stage '{STREAMED}', whose answer goes straight to the reader; put that after it"
        if any(True for _ in controls(cache.steps, Cache)):
            yield "a cache is within a cache; the outer one keeps what both have found"


_ITEMS: Final = {"switch": "case", "splitter": "share", "ensemble": "branch"}


def _place(location: tuple[int | str, ...]) -> str:
    """The place of a mistake; the kind of a step goes without saying where a member of it is named."""
    named: list[str] = []
    for at, part in enumerate(location):
        if isinstance(part, int):
            named.append(f"{_ITEMS.get(named[-1] if named else '', 'stop')} {part + 1}")
        elif part != "[key]" and not (
            at and isinstance(location[at - 1], int) and part in ("stage", *location[at + 1 : at + 2])
        ):
            named.append(part)
    return " > ".join(named) or "the file"


def _message(text: str) -> str:
    return text.removeprefix("Value error, ")


def written(steps: Sequence[Stop]) -> list[JsonValue]:
    """The steps as a person would write them."""
    return [_written(step) for step in steps]


def _written(step: Stop) -> JsonValue:
    control = control_of(step)
    match control:
        case Switch():
            cases: list[JsonValue] = [{"when": case.when, "then": written(case.then)} for case in control.cases]
            default: dict[str, JsonValue] = {"default": written(control.default)} if control.default else {}
            return {"switch": cases, **default}
        case Splitter():
            return {"splitter": [{"weight": share.weight, "then": written(share.then)} for share in control.shares]}
        case Loop():
            until: dict[str, JsonValue] = {"until": control.until} if control.until else {}
            return {"loop": written(control.steps), "times": control.times, **until}
        case Fallback():
            return {
                "fallback": written(control.steps),
                "otherwise": written(control.otherwise),
                **_set(seconds=control.seconds),
            }
        case Ensemble():
            branches: list[JsonValue] = [
                {"name": branch.name, "then": written(branch.then), **_set(seconds=branch.seconds)}
                for branch in control.branches
            ]
            return {"ensemble": branches, **_set(quorum=control.quorum or None, early=control.early or None)}
        case Cache():
            return {"cache": written(control.steps), "seconds": control.seconds, **_set(key=control.key or None)}
        case Refuse():
            return {"refuse": control.reason}
    whole = {**_set(variant=step.variant if step.variant != "default" else None), **_set(params=step.params or None)}
    return {"stage": step.stage, **whole} if whole else step.stage


def _set(**members: JsonValue) -> dict[str, JsonValue]:
    return {name: value for name, value in members.items() if value is not None}
