"""Who may talk to whom under a set of NetworkPolicies, by the rules of networking.k8s.io/v1.

Two things are counted against the policies, so that no network plugin may allow more than is computed here: a range of
addresses also covers Pods with such an address, and a name of a port is looked up in the Pod that is called.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

__all__ = ["Place", "may_talk"]

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A Pod, or an address outside of all namespaces."""

    name: str
    address: str
    namespace: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def namespace_labels(self) -> dict[str, str]:
        return {"kubernetes.io/metadata.name": self.namespace} if self.namespace else {}


def may_talk(policies: Iterable[Object], source: Place, target: Place, port: int, protocol: str = "TCP") -> bool:
    """Whether a connection from `source` to a port of `target` is let out there and let in here."""
    chosen = list(policies)
    out = _passes(chosen, source, target, target, "Egress", port, protocol)
    return out and _passes(chosen, target, source, target, "Ingress", port, protocol)


def _passes(
    policies: list[Object], pod: Place, peer: Place, called: Place, direction: str, port: int, protocol: str
) -> bool:
    """Whether the policies on `pod` let it talk with `peer`; where none holds in this direction, all may pass."""
    holding = [policy for policy in policies if _holds(policy, pod, direction)]
    if not holding:
        return True
    key, member = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    return any(
        _is_peer(rule.get(member), policy, peer) and _is_port(rule.get("ports"), called, port, protocol)
        for policy in holding
        for rule in policy["spec"].get(key) or []
    )


def _holds(policy: Object, pod: Place, direction: str) -> bool:
    spec = policy["spec"]
    return (
        pod.namespace == policy["metadata"]["namespace"]
        and direction in spec["policyTypes"]
        and _selects(spec.get("podSelector") or {}, pod.labels)
    )


def _is_peer(peers: list[Object] | None, policy: Object, place: Place) -> bool:
    if not peers:
        return True
    return any(_matches(peer, policy["metadata"]["namespace"], place) for peer in peers)


def _matches(peer: Object, namespace: str, place: Place) -> bool:
    if block := peer.get("ipBlock"):
        address = ip_address(place.address)
        excepted = any(address in ip_network(cidr) for cidr in block.get("except", []))
        return address in ip_network(block["cidr"]) and not excepted
    if place.namespace is None:
        return False
    if "namespaceSelector" in peer:
        right_namespace = _selects(peer["namespaceSelector"], place.namespace_labels)
    else:
        right_namespace = place.namespace == namespace
    return right_namespace and _selects(peer.get("podSelector") or {}, place.labels)


def _is_port(ports: list[Object] | None, called: Place, port: int, protocol: str) -> bool:
    if not ports:
        return True
    for entry in ports:
        number = entry.get("port")
        if isinstance(number, str):
            number = called.ports.get(number)
        last = entry.get("endPort", number)
        if entry.get("protocol", "TCP") == protocol and (number is None or number <= port <= last):
            return True
    return False


def _selects(selector: Object, labels: dict[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_fits(expression, labels) for expression in selector.get("matchExpressions") or [])


def _fits(expression: Object, labels: dict[str, str]) -> bool:
    key, operator = expression["key"], expression["operator"]
    if operator == "In":
        return labels.get(key) in expression["values"]
    if operator == "NotIn":
        return labels.get(key) not in expression["values"]
    assert operator in ("Exists", "DoesNotExist")
    return (key in labels) is (operator == "Exists")
