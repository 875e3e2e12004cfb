"""Who is behind a pool: the NodePort of every node that may serve, or the pods themselves. Pure.

Nodes that are not ready or on their way out leave the pool, but never the last ones: a cluster whose nodes all seem
gone has lost its control plane more often than its nodes.
"""

import re
from collections.abc import Iterable

from vrata.base.errors import InvalidInput
from vrata.kube.endpoints import port_numbers, serving
from vrata.kube.objects import Endpoint, EndpointSlice, Node, Service, ServicePort
from vrata.provider.model import Member

EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"
AUTOSCALER_TAINT = "ToBeDeletedByClusterAutoscaler"
ADDRESS_TYPES = ("InternalIP", "ExternalIP")  # the first one of a family counts
# What a label may be (Kubernetes, «Labels and Selectors»): another selector would choose no node, and empty every pool.
_NAME = "[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(f"(?:[a-z0-9.-]{{1,253}}/)?{_NAME}")
_VALUE = re.compile(f"(?:{_NAME})?")


def serving_nodes(nodes: Iterable[Node], selector: str = "") -> list[Node]:
    """Nodes that traffic may be sent to. `selector`: `key=value,key`, all of which a node must have."""
    wanted = parse_selector(selector)
    candidates = [node for node in nodes if _may_serve(node) and _matches(node, wanted)]
    return [node for node in candidates if is_healthy(node)] or candidates


def is_serving(node: Node) -> bool:
    """Whether a change of this node is a change of pools."""
    return _may_serve(node) and is_healthy(node)


def is_healthy(node: Node) -> bool:
    """Ready and not on its way out; a node that says nothing of its readiness counts as ready."""
    conditions = [entry.status for entry in node.status.conditions if entry.type == "Ready"]
    leaving = node.metadata.deletion_timestamp or any(taint.key == AUTOSCALER_TAINT for taint in node.spec.taints)
    return not leaving and conditions in ([], ["True"])


def _may_serve(node: Node) -> bool:
    has_address = any(one.type in ADDRESS_TYPES for one in node.status.addresses)
    return EXCLUDE_LABEL not in node.metadata.labels and has_address


def parse_selector(text: str) -> dict[str, str | None]:
    """`key=value,key` as key -> value, None for any value."""
    pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    if any(not (_KEY.fullmatch(key.strip()) and _VALUE.fullmatch(value.strip())) for key, _, value in pairs):
        raise InvalidInput("annotation loadbalancer.openstack.org/node-selector", text, "use key=value,key,…")
    return {key.strip(): value.strip() if sign else None for key, sign, value in pairs}


def _matches(node: Node, wanted: dict[str, str | None]) -> bool:
    labels = node.metadata.labels
    return all(key in labels and value in (None, labels[key]) for key, value in wanted.items())


def node_address(node: Node, version: int) -> str | None:
    """A node's internal address of an IP version, else an external one; None if it has none."""
    known = [one for one in node.status.addresses if (6 if ":" in one.address else 4) == version]
    return next((one.address for kind in ADDRESS_TYPES for one in known if one.type == kind), None)


class Nodes:
    """The nodes at one moment; what thousands of Services ask of them is worked out once."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes = tuple(nodes)
        self._found: dict[tuple[str, int], tuple[tuple[str, str], ...]] = {}

    def serving(self, selector: str, version: int) -> tuple[tuple[str, str], ...]:
        """Names and addresses of those that traffic may be sent to."""
        key = selector, version
        if key not in self._found:
            serving = serving_nodes(self._nodes, selector)
            named = ((node.metadata.name, node_address(node, version)) for node in serving)
            self._found[key] = tuple((name, address) for name, address in named if address)
        return self._found[key]


def node_members(
    nodes: Iterable[tuple[str, str]], port: ServicePort, *, monitor_port: int | None, subnet_id: str | None
) -> frozenset[Member]:
    """The NodePort on each of the nodes, by name and address; nobody where no NodePort was given out."""
    if not port.node_port:
        return frozenset()
    return frozenset(Member(name, address, port.node_port, monitor_port, subnet_id) for name, address in nodes)


def pod_members(
    slices: Iterable[EndpointSlice], service: Service, port: ServicePort, version: int, subnet_id: str | None
) -> frozenset[Member]:
    """The pods themselves: ready ones, else those that terminate and still serve."""
    return serving(
        (endpoint, Member(_name(endpoint), endpoint.addresses[0], number, None, subnet_id))
        for entry in slices
        if entry.service_key == service.metadata.key and entry.address_type == f"IPv{version}"
        for endpoint in entry.endpoints or ()
        for number in port_numbers(entry, port)
    )


def _name(endpoint: Endpoint) -> str:
    return endpoint.target_ref.name if endpoint.target_ref else endpoint.addresses[0]
