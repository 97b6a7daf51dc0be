"""Checking a pipeline before it runs: names, types, cycles, and the specs of its steps as far as they are known."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain, combinations, islice
from typing import Any, Final

from pydantic import JsonValue, ValidationError

from shared.contracts.jobs import KINDS, PipelineSpec, PipelineStep
from shared.contracts.pipelines.expressions import Expression, ExpressionError, parse
from shared.contracts.pipelines.scope import RESERVED, Names, listed
from shared.contracts.pipelines.steps import step_spec
from shared.contracts.pipelines.templates import BEGIN, Place, placeholders, replaced, unclosed
from shared.contracts.pipelines.types import Kind, infer

__all__ = ["MOST_ITEMS", "STEP_KINDS", "PipelineError", "Plan", "check_pipeline", "condition"]

MOST_FAULTS: Final = 50
"""Faults after which the search for more ends."""

MOST_VALUES: Final = 20_000
MOST_PLACEHOLDERS: Final = 2_000
"""Texts, numbers, lists and objects of a pipeline, and placeholders and conditions in it: what can be checked in a
second or two."""

DEEPEST_SEARCH: Final = 12
"""Parts of a location of which each selection is looked up."""

MOST_ITEMS: Final = 500
"""Items that one step may fan out over."""

STEP_KINDS: Final = tuple(kind for kind, spec in KINDS.items() if spec.is_step)
"""The kinds that a step may have. Pipelines are not nested: each would hold a slot while it waits for one."""

LATER: Final = "later"
"""Stands for a value that is not known before the pipeline runs."""

Fault = tuple[str, str]
"""A place in the spec, such as `steps.evaluate.when`, and what is wrong there."""


class PipelineError(Exception):
    """A pipeline that cannot run; `faults` are all that were found."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{place}: {message}" for place, message in faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A pipeline that can run. `order` is one in which it may; `needs` are the steps that must have ended before one,
    `reads` those of them that must have succeeded."""

    order: tuple[str, ...]
    needs: Mapping[str, frozenset[str]]
    reads: Mapping[str, frozenset[str]]


def check_pipeline(spec: PipelineSpec) -> Plan:
    """Raises PipelineError."""
    _check_size(spec)
    checker = _Checker(spec)
    faults = list(islice(checker.faults(), MOST_FAULTS))
    if len(faults) == MOST_FAULTS:
        raise PipelineError(faults)  # the search has ended early, so what steps need is not all known
    cycle = _cycle(checker.needs)
    if cycle:
        faults.append((f"steps.{cycle[0]}", f"these steps wait for each other: {' -> '.join(cycle)}"))
    if faults:
        raise PipelineError(faults)
    return Plan(
        order=tuple(_ordered(checker.needs)),
        needs={name: frozenset(needs) for name, needs in checker.needs.items()},
        reads={name: frozenset(reads) for name, reads in checker.reads.items()},
    )


def condition(text: str) -> str:
    """The expression of a `when` or an `each`, which may be written with or without `${{ }}`."""
    text = text.strip()
    return text[3:-2] if text.startswith("${{") and text.endswith("}}") else text


class _Checker:
    """Finds faults, and on the way what each step needs and reads."""

    def __init__(self, spec: PipelineSpec) -> None:
        self._spec = spec
        self.needs: dict[str, set[str]] = {name: set() for name in spec.steps}
        self.reads: dict[str, set[str]] = {name: set() for name in spec.steps}

    def faults(self) -> Iterator[Fault]:
        for name in self._spec.parameters:
            if not name.isidentifier():
                yield f"parameters.{name[:64]}", "a parameter's name has letters, digits and '_' only"
        for name, step in self._spec.steps.items():
            yield from self._step(name, step)
        names = Names(self._spec)
        for place, text in _texts(self._spec.outputs, "outputs"):
            yield from self._expression(place, text, names, None)

    def _step(self, name: str, step: PipelineStep) -> Iterator[Fault]:
        at = f"steps.{name}"
        if name in RESERVED:
            yield at, f"'{name}' means something else in expressions: name the step otherwise"
        for need in step.needs:
            if need in self._spec.steps:
                self.needs[name].add(need)
            else:
                yield f"{at}.needs", f"there is no step '{need[:64]}'; the steps are {listed(self._spec.steps)}"
        plain, looped = Names(self._spec), Names(self._spec, looped=step.each is not None)
        if step.when is not None:
            yield from self._expression(f"{at}.when", condition(step.when), plain, name, wanted=Kind.BOOLEAN)
        if step.each is not None:
            yield from self._each(f"{at}.each", step.each, plain, name)
        found = list(self._texts_of_job(name, step, looped))
        yield from found
        if not found:
            yield from self._job(f"{at}.job", step.job)

    def _each(self, at: str, each: JsonValue, names: Names, step: str) -> Iterator[Fault]:
        match each:
            case str():
                yield from self._expression(at, condition(each), names, step, wanted=Kind.LIST)
            case list() if len(each) <= MOST_ITEMS:
                for place, text in _texts(each, at):
                    yield from self._expression(place, text, names, step)
            case list():
                yield at, f"a step fans out over at most {MOST_ITEMS} items"
            case _:
                yield at, "write a list, or an expression that is one"

    def _texts_of_job(self, name: str, step: PipelineStep, names: Names) -> Iterator[Fault]:
        for place, text in _texts(step.job, f"steps.{name}.job"):
            yield from self._expression(place, text, names, name)

    def _expression(
        self, at: str, text: str, names: Names, step: str | None, *, wanted: Kind = Kind.ANY
    ) -> Iterator[Fault]:
        """What is wrong with an expression; what it reads is noted for the step that it belongs to."""
        if text == UNCLOSED:
            yield at, "a placeholder begins with '${{' and does not end with '}}'"
            return
        try:
            expression = parse(text)
            kind = infer(expression.node, names.kind)
            if wanted is not Kind.ANY and not kind.may_be(wanted):
                yield at, f"`{text.strip()}` is {kind}, not {wanted}"
            for reference in expression.references:
                read = names.step(reference)
                if step is not None and read is not None:
                    self.needs[step].add(read.step)
                    if read.of_success:
                        self.reads[step].add(read.step)
        except ExpressionError as error:
            yield at, str(error)

    def _job(self, at: str, job: dict[str, JsonValue]) -> Iterator[Fault]:
        """What is wrong with a step's spec, apart from what is not known yet."""
        kind = job.get("kind")
        if kind not in STEP_KINDS:
            yield f"{at}.kind", f"a step's kind is one of {', '.join(STEP_KINDS)}; it is {kind!r}"
            return
        if kind == "ingest" and (job.get("documents") or job.get("restricted")):
            yield f"{at}.documents", "a step ingests from a source"
            return
        unknown = {place for place, text in placeholders(job) if not self._is_known(text)}
        try:
            step_spec(replaced(job, self._known))
        except ValidationError as error:
            for found in error.errors(include_url=False, include_context=False, include_input=False):
                place = found["loc"][1:]
                if not _may_pass(place, unknown):
                    unset = self._unset(job, place)
                    message = f"the parameter '{unset}' has no value, and one is needed here" if unset else found["msg"]
                    yield ".".join([at, *map(str, place)]), message
        except ExpressionError as error:
            yield at, str(error)

    def _unset(self, job: dict[str, JsonValue], location: tuple[int | str, ...]) -> str | None:
        """The parameter without a value that stands at a place, if one does."""
        for place, text in placeholders(job):
            owner, _, name = text.partition(".")
            if owner == "parameters" and self._spec.parameters.get(name, "") is None and _within(place, location):
                return name
        return None

    def _is_known(self, text: str) -> bool:
        return all(reference[0] == "parameters" for reference in parse(text).references)

    def _known(self, expression: Expression) -> JsonValue:
        if not self._is_known(expression.text):
            return LATER
        return expression.evaluate({"parameters": self._spec.parameters})


UNCLOSED: Final = BEGIN


def _texts(template: JsonValue | Mapping[str, Any], at: str) -> Iterator[tuple[str, str]]:
    """The text of each expression below a place, with its own place."""
    value: Any = template
    for place, text in placeholders(value):
        yield _joined(at, place), text
    for place, text in _strings(value):
        if unclosed(text):
            yield _joined(at, place), UNCLOSED


def _strings(value: JsonValue, at: Place = ()) -> Iterator[tuple[Place, str]]:
    match value:
        case str():
            yield at, value
        case list():
            for index, item in enumerate(value):
                yield from _strings(item, (*at, index))
        case dict():
            for name, member in value.items():
                yield from _strings(member, (*at, name))


def _joined(at: str, place: Place) -> str:
    return at + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)


def _check_size(spec: PipelineSpec) -> None:
    """Raises PipelineError for more than can be checked in a request."""
    values = found = 0
    waiting: list[Any] = [spec.parameters, spec.outputs]
    for step in spec.steps.values():
        waiting += [step.job, step.each, list(step.needs), step.when]
        found += step.when is not None
    while waiting and values <= MOST_VALUES and found <= MOST_PLACEHOLDERS:
        value = waiting.pop()
        values += 1
        if isinstance(value, str):
            found += value.count(BEGIN)
        elif isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value
    if values > MOST_VALUES:
        raise PipelineError([("steps", f"a pipeline has at most {MOST_VALUES:,} values")])
    if found > MOST_PLACEHOLDERS:
        raise PipelineError([("steps", f"a pipeline has at most {MOST_PLACEHOLDERS:,} placeholders and conditions")])


def _may_pass(location: tuple[int | str, ...], unknown: Set[Place]) -> bool:
    """Whether an error may be gone once what is not known is there: at such a place, or of the spec as a whole.

    Locations also name the member of a union that was tried, so a place need not be all of one.
    """
    if not location:
        return bool(unknown)
    if len(location) > DEEPEST_SEARCH:
        return any(_within(place, location) for place in unknown)
    selections = (combinations(location, length) for length in range(len(location) + 1))
    return not unknown.isdisjoint(chain.from_iterable(selections))


def _within(place: Place, location: tuple[int | str, ...]) -> bool:
    parts = iter(location)
    return all(part in parts for part in place)


def _cycle(needs: Mapping[str, set[str]]) -> list[str]:
    """A way along steps that need each other back to its start; empty where there is none."""
    done: set[str] = set()
    for start in needs:
        path: list[str] = []
        stack = [iter([start])]
        while stack:
            step = next(stack[-1], None)
            if step is None:
                stack.pop()
                if path:
                    done.add(path.pop())
            elif step in path:
                return [*path[path.index(step) :], step]
            elif step not in done:
                path.append(step)
                stack.append(iter(sorted(needs[step])))
    return []


def _ordered(needs: Mapping[str, set[str]]) -> Iterator[str]:
    """The steps, each after those that it needs, else as they are written. There must be no cycle."""
    done: set[str] = set()

    def with_needs(step: str) -> Iterator[str]:
        if step not in done:
            for need in needs:
                if need in needs[step]:
                    yield from with_needs(need)
            done.add(step)
            yield step

    for step in needs:
        yield from with_needs(step)
