"""Going through the steps of a graph: what stages it visits, in which order, and how long its slips become."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from shared.contracts.envelope import Stop
from shared.contracts.graphs.nodes import (
    GRAPH,
    Cache,
    Control,
    Ensemble,
    Fallback,
    Loop,
    Otherwise,
    Splitter,
    Switch,
    control_of,
)

__all__ = [
    "END",
    "controls",
    "depth",
    "following",
    "is_graph",
    "longest_slip",
    "longest_trail",
    "parts",
    "rewritten",
    "stages",
    "within",
]

Steps = tuple[Stop, ...]
AnyControl = TypeVar("AnyControl", bound=Control)

END: Final = ""
"""What follows the last stop."""


def is_graph(steps: Sequence[Stop]) -> bool:
    """Whether any of the steps is a control."""
    return any(step.stage == GRAPH for step in steps)


def parts(control: Control) -> tuple[Steps, ...]:
    """The sequences of steps that a control holds."""
    match control:
        case Switch():
            return (*(case.then for case in control.cases), control.default)
        case Splitter():
            return tuple(share.then for share in control.shares)
        case Fallback():
            return control.steps, control.otherwise
        case Loop() | Otherwise() | Cache():
            return (control.steps,)
        case Ensemble():
            return tuple(branch.then for branch in control.branches)
    return ()


def stages(steps: Sequence[Stop]) -> Iterator[Stop]:
    """The stops at stages anywhere in the steps, in the order in which they are written."""
    for step in steps:
        if (control := control_of(step)) is None:
            yield step
        else:
            for part in parts(control):
                yield from stages(part)


def controls(steps: Sequence[Stop], kind: type[AnyControl]) -> Iterator[AnyControl]:
    """The controls of a kind anywhere in the steps, the outer ones first."""
    for step in steps:
        if (control := control_of(step)) is not None:
            if isinstance(control, kind):
                yield control
            for part in parts(control):
                yield from controls(part, kind)


def rewritten(steps: Steps, change: Callable[[Steps], Steps]) -> Steps:
    """The steps with a change made to every sequence of them, the innermost first."""
    return change(tuple(within(step, lambda part: rewritten(part, change)) for step in steps))


def within(step: Stop, inner: Callable[[Steps], Steps]) -> Stop:
    """The step with a change made to each sequence that it holds, if it is a control."""
    changed: dict[str, Any]
    control = control_of(step)
    match control:
        case Switch():
            cases = tuple(case.model_copy(update={"then": inner(case.then)}) for case in control.cases)
            changed = {"cases": cases, "default": inner(control.default)}
        case Splitter():
            shares = tuple(share.model_copy(update={"then": inner(share.then)}) for share in control.shares)
            changed = {"shares": shares}
        case Fallback():
            changed = {"steps": inner(control.steps), "otherwise": inner(control.otherwise)}
        case Loop() | Otherwise() | Cache():
            changed = {"steps": inner(control.steps)}
        case Ensemble():
            branches = tuple(branch.model_copy(update={"then": inner(branch.then)}) for branch in control.branches)
            changed = {"branches": branches}
        case _:
            return step
    # A stop keeps what only a newer version knows.
    return step.model_copy(update={"params": control.model_copy(update=changed).stop().params})


def depth(steps: Sequence[Stop]) -> int:
    """How deep controls are nested: 0 where there is none."""
    controls = [control for step in steps if (control := control_of(step)) is not None]
    return max((1 + max(map(depth, parts(control)), default=0) for control in controls), default=0)


def longest_slip(steps: Sequence[Stop]) -> int:
    """The most stops that a slip of these steps has at any time, with its controls resolved in place."""
    return max((_unfolded(step) + len(steps) - at - 1 for at, step in enumerate(steps)), default=0)


def _unfolded(step: Stop) -> int:
    control = control_of(step)
    if control is None:
        return 1
    kept = 1 if isinstance(control, Loop | Fallback | Ensemble | Cache) else 0
    return max(1, kept + max(map(longest_slip, parts(control)), default=0))


def longest_trail(steps: Sequence[Stop]) -> int:
    """The most stages that a query visits. An ensemble, a cache, or a round of a loop without any counts as one:
    it is work too."""
    return sum(_visits(step) for step in steps)


def _visits(step: Stop) -> int:
    match control := control_of(step):
        case None:
            return 1
        case Loop():
            return control.times * max(1, longest_trail(control.steps))
        case Fallback():
            return sum(map(longest_trail, parts(control)))
        case Ensemble() | Cache():
            return max(1, sum(map(longest_trail, parts(control))))
    return max(map(longest_trail, parts(control)), default=0)


def following(steps: Sequence[Stop]) -> set[tuple[str, str]]:
    """Which stage a query may go to from which, as pairs; `END` is before the first and after the last."""
    pairs: set[tuple[str, str]] = set()
    for last in _lasts(steps, {END}, pairs):
        pairs.add((last, END))
    return pairs


def _lasts(steps: Sequence[Stop], before: set[str], pairs: set[tuple[str, str]]) -> set[str]:
    """The stages after which these steps are over, for a query that comes from one of the stages `before`."""
    for step in steps:
        before = _after(step, before, pairs)
    return before


def _after(step: Stop, before: set[str], pairs: set[tuple[str, str]]) -> set[str]:
    match control := control_of(step):
        case None:
            pairs.update((stage, step.stage) for stage in before)
            return {step.stage}
        case Loop():
            once = _lasts(control.steps, before, pairs)
            return _lasts(control.steps, once, pairs)
        case Fallback():
            tried = _lasts(control.steps, before, pairs)
            # Any of the steps may be the one that fails, and the first may have no room.
            failing = {*before, *(stop.stage for stop in stages(control.steps))}
            return tried | _lasts(control.otherwise, failing, pairs)
        case Cache():
            return before | _lasts(control.steps, before, pairs)
        case Ensemble():
            # Any stage of a branch may be the last that ends, by a failure too, and the first may have no room.
            for branch in control.branches:
                _lasts(branch.then, before, pairs)
            return {*before, *(stop.stage for stop in stages([step]))}
    ends = {last for part in parts(control) for last in _lasts(part, before, pairs)}
    return ends or before
