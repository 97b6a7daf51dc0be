"""Kubernetes' HorizontalPodAutoscaler for one external metric with a target of the kind AverageValue.

After its documentation ("Horizontal Pod Autoscaling": algorithm details, configurable scaling behavior) and, where that
is silent, after the controller's `stabilizeRecommendationWithBehaviors` and `calculateScaleUpLimitWithScalingRules`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

__all__ = ["DEFAULT_UP", "Autoscaler", "Rules", "Step"]

TOLERANCE: Final = 0.1
"""How far the ratio of metric and target may be from 1 without a change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """At most so many Pods, or so many percent of the Pods, within a number of seconds."""

    kind: str
    value: int
    period: float

    def limit(self, start: int, sign: int) -> int:
        """How many Pods there may be at the end of a period that began with `start`."""
        if self.kind == "Pods":
            return start + sign * self.value
        return math.ceil(start * (1 + sign * self.value / 100)) if sign > 0 else int(start * (1 - self.value / 100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """One direction of `behavior`: seconds of stabilisation, and the steps of which the largest counts."""

    window: float
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, behavior: Mapping[str, Any], otherwise: "Rules") -> Self:
        """From a manifest; what it omits is as Kubernetes has it."""
        assert behavior.get("selectPolicy", "Max") == "Max"
        steps = [
            Step(kind=step["type"], value=step["value"], period=step["periodSeconds"])
            for step in behavior.get("policies", [])
        ]
        window = behavior.get("stabilizationWindowSeconds", otherwise.window)
        return cls(window=window, steps=tuple(steps) or otherwise.steps)


DEFAULT_UP: Final = Rules(
    window=0, steps=(Step(kind="Percent", value=100, period=15), Step(kind="Pods", value=4, period=15))
)
DEFAULT_DOWN: Final = Rules(window=300, steps=(Step(kind="Percent", value=100, period=15),))


@dataclass
class Autoscaler:
    """`sync` is called every 15 seconds. Times are seconds."""

    target: float
    least: int
    most: int
    up: Rules = DEFAULT_UP
    down: Rules = DEFAULT_DOWN
    _wanted: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Self:
        """From a HorizontalPodAutoscaler of autoscaling/v2 with one external metric first."""
        spec = manifest["spec"]
        behavior = spec.get("behavior", {})
        return cls(
            target=float(spec["metrics"][0]["external"]["target"]["averageValue"]),
            least=spec["minReplicas"],
            most=spec["maxReplicas"],
            up=Rules.of(behavior.get("scaleUp", {}), DEFAULT_UP),
            down=Rules.of(behavior.get("scaleDown", {}), DEFAULT_DOWN),
        )

    def sync(self, now: float, metric: float, pods: int) -> int:
        """How many Pods there are to be, where there are `pods` and the metric is over all of them."""
        steady = abs(metric / (self.target * pods) - 1) <= TOLERANCE
        wanted = pods if steady else math.ceil(metric / self.target)
        wanted = max(self.least, min(self.most, wanted))
        chosen = self._limited(now, self._stabilized(now, wanted, pods), pods)
        if chosen != pods:
            self._changes.append((now, chosen - pods))
        return chosen

    def _stabilized(self, now: float, wanted: int, pods: int) -> int:
        if not self._wanted:
            self._wanted.append((now, pods))
        recent = [(at, number) for at, number in self._wanted if at > now - max(self.up.window, self.down.window)]
        low = min([wanted, *(number for at, number in recent if at > now - self.up.window)])
        high = max([wanted, *(number for at, number in recent if at > now - self.down.window)])
        self._wanted = [*recent, (now, wanted)]
        return min(max(pods, low), high)

    def _limited(self, now: float, chosen: int, pods: int) -> int:
        if chosen > pods:
            return min(chosen, max(step.limit(self._before(now, step, pods), 1) for step in self.up.steps))
        if chosen < pods:
            return max(chosen, min(step.limit(self._before(now, step, pods), -1) for step in self.down.steps))
        return pods

    def _before(self, now: float, step: Step, pods: int) -> int:
        """How many Pods there were when the step's period began."""
        return pods - sum(change for at, change in self._changes if at > now - step.period)
