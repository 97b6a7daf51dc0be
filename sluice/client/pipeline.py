"""Pipelines in Python: a builder of what a YAML file says.

from sluice import Client, Pipeline

nightly = Pipeline("nightly", collection="docs", tolerance=0.01)
reindex = nightly.step("reindex", "reindex", collection=nightly.collection, switch=False)
live = nightly.step("live", "evaluate", needs=[reindex], input="questions/q.jsonl", collection=nightly.collection)
new = nightly.step("new", "evaluate", input="questions/q.jsonl", version=reindex.version)
nightly.step(
    "switch",
    "switch",
    when=new.recall_at_5 >= live.recall_at_5 - nightly.tolerance,
    collection=nightly.collection,
    version=reindex.version,
)
with Client() as sluice:
    sluice.submit_job(nightly.spec)
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Union

__all__ = ["ITEM", "Pipeline", "Reference", "Step"]

Operand = Union["Reference", str, int, float, bool, list[Any], None]


class Reference:
    """A value that is known when the pipeline runs. Members, comparisons and arithmetic of it are such values too.

    Join conditions by `&` and `|`, in parentheses, and negate them by `~`; `condition.then(a, b)` is one of two values.
    `str()` is the placeholder, for use inside a text. A member that is called as a method here is `step["then"]`.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    @property
    def expression(self) -> str:
        return self._text

    def __str__(self) -> str:
        return f"${{{{ {self._text} }}}}"

    def __repr__(self) -> str:
        return f"Reference({self._text!r})"

    def __getattr__(self, name: str) -> "Reference":
        if name.startswith("_"):
            raise AttributeError(name)
        return Reference(f"{self._text}.{name}")

    def __getitem__(self, key: str | int) -> "Reference":
        return Reference(f"{self._text}[{_written(key)}]")

    def __bool__(self) -> bool:
        raise TypeError("what this is will be known when the pipeline runs: join conditions by & and |, not and, or")

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> "Reference":  # type: ignore[override]
        return self._with("==", other)

    def __ne__(self, other: object) -> "Reference":  # type: ignore[override]
        return self._with("!=", other)

    def __lt__(self, other: Operand) -> "Reference":
        return self._with("<", other)

    def __le__(self, other: Operand) -> "Reference":
        return self._with("<=", other)

    def __gt__(self, other: Operand) -> "Reference":
        return self._with(">", other)

    def __ge__(self, other: Operand) -> "Reference":
        return self._with(">=", other)

    def __and__(self, other: Operand) -> "Reference":
        return self._with("and", other)

    def __or__(self, other: Operand) -> "Reference":
        return self._with("or", other)

    def __invert__(self) -> "Reference":
        return Reference(f"not ({self._text})")

    def __add__(self, other: Operand) -> "Reference":
        return self._with("+", other)

    def __radd__(self, other: Operand) -> "Reference":
        return Reference(f"{_operand(other)} + {_operand(self)}")

    def __round__(self, digits: int = 0) -> "Reference":
        return Reference(f"round({self._text}, {digits})")

    def then(self, value: Operand, otherwise: Operand) -> "Reference":
        """One value where this holds, else the other one."""
        return Reference(f"{_operand(value)} if {_operand(self)} else {_operand(otherwise)}")

    def __sub__(self, other: Operand) -> "Reference":
        return self._with("-", other)

    def __mul__(self, other: Operand) -> "Reference":
        return self._with("*", other)

    def __truediv__(self, other: Operand) -> "Reference":
        return self._with("/", other)

    def _with(self, operator: str, other: object) -> "Reference":
        return Reference(f"{_operand(self)} {operator} {_operand(other)}")


ITEM = Reference("item")
"""In a step with `each`: the item of the list."""


class Step(Reference):
    """A step of a pipeline; its outputs, `state`, `job` and `artifacts` are its members."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Pipeline:
    """A pipeline with these parameters, which are its members. The server checks it as a whole when it is submitted.

    Raises ValueError for a parameter that is called as a method here.
    """

    def __init__(self, name: str, /, **parameters: Any) -> None:
        for taken in parameters.keys() & {"step", "output", "spec", "with_parameters"}:
            raise ValueError(f"a parameter cannot be called {taken!r} here: name it otherwise")
        self._name = name
        self._parameters = parameters
        self._steps: dict[str, dict[str, Any]] = {}
        self._outputs: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Reference:
        if name.startswith("_") or name not in self._parameters:
            raise AttributeError(f"the pipeline has no parameter {name!r}")
        return Reference(f"parameters.{name}")

    def step(
        self,
        name: str,
        kind: str,
        /,
        *,
        needs: Iterable[Step] = (),
        when: Reference | str | bool | None = None,
        each: Reference | list[Any] | None = None,
        parallel: int | None = None,
        retry: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        cache: bool = False,
        allow_failure: bool = False,
        **spec: Any,
    ) -> Step:
        """Add a step: a job of this kind, with the members of its spec. What it refers to comes before it."""
        if name in self._steps:
            raise ValueError(f"the pipeline has a step {name!r} already")
        said: dict[str, Any] = {
            "needs": [need.name for need in needs] or None,
            "when": when.expression if isinstance(when, Reference) else when,
            "each": each.expression if isinstance(each, Reference) else each,
            "parallel": parallel,
            "retry": dict(retry) if retry else None,
            "timeout": timeout,
            "cache": cache or None,
            "allow_failure": allow_failure or None,
        }
        members = {member: _plain(value) for member, value in said.items() if value is not None}
        self._steps[name] = {"job": _plain({"kind": kind, **spec}), **members}
        return Step(name)

    def with_parameters(self, **values: Any) -> dict[str, Any]:
        """The spec with other values of some parameters. Raises ValueError for one that the pipeline does not have."""
        for unknown in values.keys() - self._parameters.keys():
            raise ValueError(f"the pipeline has no parameter {unknown!r}")
        return {**self.spec, "parameters": self._parameters | values}

    def output(self, name: str, value: Any) -> None:
        """Add an output of the pipeline; one called `message` is what it says at its end."""
        self._outputs[name] = _plain(value)

    @property
    def spec(self) -> dict[str, Any]:
        """What `Client.submit_job` and `Client.create_schedule` take."""
        return {
            "kind": "pipeline",
            "name": self._name,
            "parameters": dict(self._parameters),
            "steps": dict(self._steps),
            "outputs": dict(self._outputs),
        }


def _plain(value: Any) -> Any:
    """JSON, with references as placeholders."""
    if isinstance(value, Reference):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _operand(value: object) -> str:
    if isinstance(value, Reference):
        text = value.expression
        return f"({text})" if " " in text else text
    return _written(value)


def _written(value: object) -> str:
    """A literal: JSON's are those of the expressions, and texts are quoted alike. In a list there may be references."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(_operand(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False)
