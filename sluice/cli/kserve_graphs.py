"""KServe's InferenceGraph as a pipeline of Sluice.

A service becomes a call of the model with its name, which the repository has to have. What the router of KServe does
with a response is written down where it has a counterpart; what has none is a note, or refused where the graph would
mean something else without it.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sluice.cli.gjson_conditions import ConditionError, Source, condition_of
from sluice.cli.yaml_files import YamlFile, YamlFileError

__all__ = ["ImportedGraph", "Models", "graphs_of", "pipelines_yaml"]

ROOT: Final = "root"
PIPELINE: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

MOST_STEPS: Final = 200
"""Steps of a graph with its nodes written out, as often as they are named."""

DEPLOYED: Final = frozenset(
    {
        "affinity",
        "maxReplicas",
        "minReplicas",
        "nodeName",
        "nodeSelector",
        "resources",
        "scaleMetric",
        "scaleTarget",
        "serviceAccountName",
        "tolerations",
    }
)
"""Members that say how Kubernetes runs KServe's router, which has no counterpart: the stages decide themselves."""

TIMES: Final = frozenset({"timeout", "routerTimeouts"})

TARGETS: Final = ("serviceName", "nodeName", "serviceUrl")
MEMBERS: Final = frozenset({*TARGETS, "name", "condition", "data", "dependency", "mapPredictionsToInstances", "weight"})

Step = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """`inputs` are the names of models' inputs that get the question, `input` that of all others. `urls` says which
    model a URL stands for."""

    input: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    urls: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedGraph:
    """A pipeline, and what of the graph it does not have, each with its place."""

    name: str
    steps: Sequence[Step]
    notes: Sequence[str]


def graphs_of(documents: Iterable[YamlFile], models: Models) -> list[ImportedGraph]:
    """Those of the documents that are graphs. Raises YamlFileError, with the place, for a graph that has no
    counterpart, and where there is none."""
    graphs = []
    for document in documents:
        if isinstance(document.value, dict) and document.value.get("kind") == "InferenceGraph":
            reader = _Reader(document, models)
            steps = reader.node(ROOT, Source.REQUEST, (), "")
            graphs.append(ImportedGraph(name=reader.name(), steps=steps, notes=list(dict.fromkeys(reader.notes))))
    if not graphs:
        raise YamlFileError("the file has no document of the kind InferenceGraph")
    return graphs


def pipelines_yaml(graphs: Sequence[ImportedGraph], then: Sequence[str] = ()) -> str:
    """A file of pipelines, whose comments are the notes. The stages `then` follow each graph.

    Raises YamlFileError for two graphs of one name.
    """
    import yaml

    names = [graph.name for graph in graphs]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise YamlFileError(f"two graphs would be the pipeline {twice}: rename one of them")
    notes = [f"# {line}\n" for graph in graphs for line in _comment(graph)]
    written = yaml.safe_dump(
        {"pipelines": {graph.name: [*graph.steps, *then] for graph in graphs}},
        sort_keys=False,
        allow_unicode=True,
        width=120,
        default_flow_style=None,
    )
    return "".join(notes) + written


def _comment(graph: ImportedGraph) -> Sequence[str]:
    if not graph.notes:
        return ()
    return (f"{graph.name}: not carried over", *(f"- {' '.join(note.split())}" for note in graph.notes))


class _Reader:
    def __init__(self, file: YamlFile, models: Models) -> None:
        self.notes: list[str] = []
        self._file = file
        self._models = models
        self._count = 0
        self._routers: Mapping[str, Callable[[str, Sequence[Step], Source, tuple[str, ...]], list[Step]]] = {
            "Sequence": self._sequence,
            "Switch": self._switch,
            "Splitter": self._splitter,
            "Ensemble": self._ensemble,
        }
        spec = self._mapping("spec")
        self._nodes = self._mapping("spec.nodes")
        for member in spec:
            if member in DEPLOYED:
                self._note(f"spec.{member}", f"{member} is for KServe's router, and Sluice has none")
            elif member in TIMES:
                self._note(f"spec.{member}", f"{member} is not carried over: a request says its own `timeout`")
            elif member != "nodes":
                self._note(f"spec.{member}", f"{member} is not known here")

    def name(self) -> str:
        """The graph's name as that of a pipeline."""
        given = str(self._mapping("metadata").get("name", ""))
        name = given.lower().replace(".", "-")[:32].rstrip("-")
        if not PIPELINE.fullmatch(name):
            raise self._refused("metadata", f"{given!r} cannot be the name of a pipeline: it begins with a letter")
        if name != given:
            self._note("metadata.name", f"the pipeline is called {name}, as names have 32 characters and no dots")
        return name

    def node(self, name: str, source: Source, above: tuple[str, ...], at: str) -> list[Step]:
        """The steps of a node whose input is the source. `at` is the place that names it."""
        if name not in self._nodes:
            raise self._refused(at or "spec.nodes", f"there is no node {name!r}")
        if name in above:
            raise self._refused(at, f"the node {name!r} leads to itself")
        place = f"spec.nodes.{name}"
        node = self._nodes[name]
        if not isinstance(node, dict):
            raise self._refused(place, "a node is an object with a routerType and steps")
        router = self._routers.get(str(node.get("routerType")))
        if router is None:
            kinds = ", ".join(self._routers)
            raise self._refused(place, f"routerType is {node.get('routerType')!r}; there are {kinds}")
        steps = node.get("steps")
        if not isinstance(steps, list) or not steps or not all(isinstance(step, dict) for step in steps):
            raise self._refused(place, "a node has a list of steps")
        return router(place, steps, source, (*above, name))

    def _sequence(self, place: str, steps: Sequence[Step], source: Source, above: tuple[str, ...]) -> list[Step]:
        written: list[Step] = []
        ahead = written
        for index, step in enumerate(steps):
            at = f"{place}.steps[{index}]"
            takes_response = index > 0 and str(step.get("data") or "").startswith("$response")
            # The response of an Ensemble is those of its models, by name.
            answered = Source.EARLIER if index and self._is_ensemble(steps[index - 1]) else Source.RESPONSE
            own = source if index == 0 or source is Source.REQUEST else Source.EARLIER
            if step.get("condition"):
                if index == 0:
                    raise self._refused(f"{at}.condition", "the first step of a sequence has no response to look at")
                # Where it does not hold the sequence ends.
                rest: list[Step] = []
                ahead.append({"switch": [{"when": self._condition(at, step, answered), "then": rest}]})
                ahead = rest
            ahead += self._step(at, step, answered if takes_response else own, above)
        return written

    def _switch(self, place: str, steps: Sequence[Step], source: Source, above: tuple[str, ...]) -> list[Step]:
        cases: list[Step] = []
        for index, step in enumerate(steps):
            at = f"{place}.steps[{index}]"
            if not step.get("condition"):
                raise self._refused(at, "a step of a Switch has a condition: without one KServe never takes it")
            cases.append({"when": self._condition(at, step, source), "then": self._step(at, step, source, above)})
        return [{"switch": cases, "default": [{"refuse": "None of the conditions holds for this request."}]}]

    def _splitter(self, place: str, steps: Sequence[Step], source: Source, above: tuple[str, ...]) -> list[Step]:
        shares: list[Step] = []
        total = 0
        for index, step in enumerate(steps):
            at = f"{place}.steps[{index}]"
            weight = step.get("weight")
            if type(weight) is not int or not 0 <= weight <= 100:
                raise self._refused(at, "a step of a Splitter has a weight from 0 to 100")
            total += weight
            shares.append({"weight": weight, "then": self._step(at, step, source, above)})
        if total != 100:
            raise self._refused(place, f"the weights are {total} in all, and KServe takes 100 only")
        return [{"splitter": shares}]

    def _ensemble(self, place: str, steps: Sequence[Step], source: Source, above: tuple[str, ...]) -> list[Step]:
        branches: list[Step] = []
        for index, step in enumerate(steps):
            at = f"{place}.steps[{index}]"
            given = str(step.get("name") or index)
            name = re.sub(r"[^a-z0-9]+", "-", given.lower()).strip("-")[:32]
            if not PIPELINE.fullmatch(name) or any(branch["name"] == name for branch in branches):
                name = f"step-{index}"
            if name != given:
                self._note(f"{at}.name", f"the branch is called {name}")
            branches.append({"name": name, "then": self._step(at, step, source, above)})
        return [{"ensemble": branches}]

    def _is_ensemble(self, step: Step) -> bool:
        node = self._nodes.get(str(step.get("nodeName")))
        return isinstance(node, dict) and node.get("routerType") == "Ensemble"

    def _step(self, at: str, step: Step, source: Source, above: tuple[str, ...]) -> list[Step]:
        """What comes in the place of one step."""
        self._count += 1
        if self._count > MOST_STEPS:
            raise self._refused(at, f"the graph has more than {MOST_STEPS} steps, with its nodes written out")
        for member in sorted(step.keys() - MEMBERS):
            self._note(f"{at}.{member}", f"{member} is not known here")
        if step.get("mapPredictionsToInstances"):
            self._note(f"{at}.mapPredictionsToInstances", "predictions are not made instances: see `data`")
        targets = [member for member in TARGETS if step.get(member)]
        if len(targets) != 1:
            raise self._refused(at, f"a step has one of {', '.join(TARGETS)}")
        if targets[0] == "nodeName":
            steps = self.node(str(step["nodeName"]), source, above, f"{at}.nodeName")
        else:
            steps = [self._call(at, step, targets[0], source)]
        if step.get("dependency") == "Soft":
            return [{"fallback": steps, "otherwise": []}]
        return steps

    def _call(self, at: str, step: Step, target: str, source: Source) -> Step:
        model = str(step[target])
        if target == "serviceUrl":
            if model not in self._models.urls:
                raise self._refused(
                    f"{at}.serviceUrl",
                    "no URL is called from a pipeline: put the model into the repository, and say which it is with "
                    f"--model '{model}=NAME'",
                )
            model = self._models.urls[model]
        if not MODEL.fullmatch(model):
            raise self._refused(f"{at}.{target}", f"{model!r} cannot be the name of a model")
        if source is not Source.REQUEST:
            self._note(f"{at}.data", f"{model} gets the question, and not the response of a model before")
        name = self._models.inputs.get(model, self._models.input)
        return {"stage": "predict", "params": {"model": model, "texts": {name: "question"}}}

    def _condition(self, at: str, step: Step, source: Source) -> str:
        try:
            return condition_of(str(step["condition"]), source)
        except ConditionError as error:
            raise self._refused(f"{at}.condition", f"the condition {step['condition']}: {error}") from None

    def _mapping(self, path: str) -> dict[str, Any]:
        value = self._file.value
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, dict):
            raise self._refused(path, f"an InferenceGraph has an object `{path}`")
        return value

    def _note(self, path: str, text: str) -> None:
        self.notes.append(f"{self._file.at(path)}: {text}")

    def _refused(self, path: str, text: str) -> YamlFileError:
        return YamlFileError(f"{self._file.at(path) or self._file.name}: {text}")
