"""Pictures of pipelines: a tree for a terminal, and Mermaid for a page."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["mermaid", "tree"]

Step = Any
"""As in the file of pipelines: the name of a stage, or an object."""

Part = tuple[str, Sequence[Step]]
"""The steps of a control, and what leads to them."""


def tree(name: str, steps: Sequence[Step]) -> str:
    """The steps as a tree, a line each."""
    return "\n".join([name, *_branches(steps)])


def _branches(steps: Sequence[Step]) -> Iterator[str]:
    for at, step in enumerate(steps):
        last = at == len(steps) - 1
        yield f"{'└─' if last else '├─'} {_label(step)}"
        for line in _parts_as_lines(_parts(step)):
            yield f"{'   ' if last else '│  '}{line}"


def _parts_as_lines(parts: Sequence[Part]) -> Iterator[str]:
    for at, (leads, steps) in enumerate(parts):
        last = at == len(parts) - 1
        yield f"{'└─' if last else '├─'} {leads}:{'' if steps else ' nothing'}"
        for line in _branches(steps):
            yield f"{'   ' if last else '│  '}{line}"


def _label(step: Step) -> str:
    match step:
        case str():
            return step
        case {"stage": stage}:
            variant = f" ({step['variant']})" if "variant" in step else ""
            params = f" {json.dumps(step['params'], ensure_ascii=False)}" if step.get("params") else ""
            return f"{stage}{variant}{params}"
        case {"loop": _, "times": times}:
            until = f", until {step['until']}" if "until" in step else ""
            return f"loop, at most {times} times{until}"
        case {"fallback": _}:
            return "fallback" + (f", after {step['seconds']:g} s" if "seconds" in step else "")
        case {"refuse": reason}:
            return f"refuse: {reason}"
        case {"ensemble": branches}:
            return f"ensemble{_needs(step, len(branches))}"
        case {"cache": _, "seconds": seconds}:
            key = f", by {step['key']}" if "key" in step else ""
            return f"cache, {seconds:g} s{key}"
        case {"switch": _}:
            return "switch"
        case {"splitter": _}:
            return "splitter"
    return next(iter(step), "?") if isinstance(step, dict) else str(step)


def _needs(step: Step, total: int) -> str:
    quorum = step.get("quorum", total)
    enough = "" if quorum == total else f", {quorum} of {total} must succeed"
    return f"{enough}, goes on as soon as they have" if step.get("early") else enough


def _branch(branch: Step) -> str:
    limit = f", at most {branch['seconds']:g} s" if "seconds" in branch else ""
    return f"{branch['name']}{limit}"


def _parts(step: Step) -> list[Part]:
    match step:
        case {"switch": cases}:
            return [*((f"when {case['when']}", case["then"]) for case in cases), ("else", step.get("default", []))]
        case {"splitter": shares}:
            total = sum(share["weight"] for share in shares)
            return [(f"{share['weight'] / total:.4g} of the queries", share["then"]) for share in shares]
        case {"ensemble": branches}:
            return [(_branch(branch), branch["then"]) for branch in branches]
        case {"cache": steps}:
            return [("if not kept", steps), ("kept", [])]
        case {"loop": steps}:
            return [("each time", steps)]
        case {"fallback": steps, "otherwise": otherwise}:
            return [("first", steps), ("if that fails", otherwise)]
    return []


def mermaid(steps: Sequence[Step]) -> str:
    """The steps as a flowchart in Mermaid's language."""
    chart = _Chart()
    ends = chart.add(steps, [(chart.node("question", ends=True), "")])
    chart.join(ends, chart.node("answer", ends=True))
    return "\n".join(["flowchart TD", *(f"  {line}" for line in chart.lines)])


Ends = list[tuple[str, str]]
"""Nodes that the next step follows, and what is written at the arrow."""


class _Chart:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self._nodes = 0

    def node(self, label: str, *, ends: bool = False, decides: bool = False) -> str:
        self._nodes += 1
        name = f"n{self._nodes}"
        left, right = ("([", "])") if ends else ("{", "}") if decides else ("[", "]")
        self.lines.append(f'{name}{left}"{_quoted(label)}"{right}')
        return name

    def join(self, ends: Ends, node: str) -> None:
        for end, leads in ends:
            self.lines.append(f'{end} -->|"{_quoted(leads)}"| {node}' if leads else f"{end} --> {node}")

    def add(self, steps: Sequence[Step], ends: Ends) -> Ends:
        """Draw the steps after these ends. Returns where they end."""
        for step in steps:
            ends = self._step(step, ends)
        return ends

    def _step(self, step: Step, ends: Ends) -> Ends:
        node = self.node(_label(step), decides=bool(parts := _parts(step)))
        self.join(ends, node)
        if isinstance(step, dict) and "refuse" in step:
            return []
        if isinstance(step, dict) and "loop" in step:
            self.join(self.add(step["loop"], [(node, "again")]), node)
            return [(node, "done")]
        return [end for leads, part in parts for end in self.add(part, [(node, leads)])] if parts else [(node, "")]


def _quoted(text: str) -> str:
    return text.replace("&", "#amp;").replace('"', "#quot;").replace("\n", " ")
