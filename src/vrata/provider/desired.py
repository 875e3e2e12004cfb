"""From a Service and the nodes to what it wants in the cloud: pure.

Names, tags and descriptions are those of the OpenStack cloud controller, so that either sees the other's objects.
Annotations that cannot be acted on raise InvalidInput with the annotation's name, its value and what would do.
"""

import ipaddress
from collections.abc import Iterable

from vrata.base.errors import InvalidInput
from vrata.kube.objects import Node, Service, ServicePort
from vrata.provider.model import Desired, Listener, Member, Monitor, Pool, Settings

INTERNAL = "service.beta.kubernetes.io/openstack-internal-load-balancer"
PREFIX = "loadbalancer.openstack.org/"
EXCLUDE_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"
AUTOSCALER_TAINT = "ToBeDeletedByClusterAutoscaler"
NAME_MAX = 255
TIMEOUTS = {
    "timeout-client-data": "timeout_client_data",
    "timeout-member-connect": "timeout_member_connect",
    "timeout-member-data": "timeout_member_data",
    "timeout-tcp-inspect": "timeout_tcp_inspect",
}
ALGORITHMS = ("ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP")
PROXY = {"false": None, "true": "PROXY", "v1": "PROXY", "v2": "PROXYV2"}


def balancer_name(settings: Settings, service: Service) -> str:
    """`kube_service_<cluster>_<namespace>_<name>`."""
    return f"kube_service_{settings.cluster}_{service.metadata.namespace}_{service.metadata.name}"[:NAME_MAX]


def floating_description(settings: Settings, service: Service) -> str:
    """The owner's mark on a floating IP."""
    return f"Floating IP for Kubernetes external service {service.metadata.key} from cluster {settings.cluster}"


def desired(settings: Settings, service: Service, nodes: Iterable[Node]) -> Desired:
    """What the Service wants; raises InvalidInput for what it says but nobody can do."""
    internal = settings.internal or _bool(service, INTERNAL, default=False)
    fixed = _address(service.spec.load_balancer_ip)
    serving = [node for node in nodes if is_serving(node)]
    return Desired(
        name=balancer_name(settings, service),
        description=f"Kubernetes external service {service.metadata.key} from cluster {settings.cluster}",
        floating_description=floating_description(settings, service),
        internal=internal,
        listeners=tuple(_listener(settings, service, port, serving) for port in service.spec.ports),
        vip_address=fixed if internal else None,
        floating_address=None if internal else fixed,
        keep_floating=_bool(service, PREFIX + "keep-floatingip", default=False),
        proxy_protocol=_choice(service, "proxy-protocol", PROXY, "false") is not None,
    )


def is_serving(node: Node) -> bool:
    """Whether a node may be a member: not on its way out, not excluded, with an address."""
    return (
        node.metadata.deletion_timestamp is None
        and EXCLUDE_LABEL not in node.metadata.labels
        and all(taint.key != AUTOSCALER_TAINT for taint in node.spec.taints)
        and node.address("InternalIP") is not None
    )


def _listener(settings: Settings, service: Service, port: ServicePort, nodes: Iterable[Node]) -> Listener:
    local = service.spec.external_traffic_policy == "Local" and service.spec.health_check_node_port
    members = frozenset(
        Member(
            name=node.metadata.name,
            address=node.address("InternalIP") or "",
            port=port.node_port,
            monitor_port=service.spec.health_check_node_port if local else None,
        )
        for node in nodes
        if port.node_port
    )
    proxy = _choice(service, "proxy-protocol", PROXY, "false")
    algorithm = service.metadata.annotations.get(PREFIX + "lb-method", settings.algorithm)
    if algorithm not in ALGORITHMS:
        raise InvalidInput(f"annotation {PREFIX}lb-method", algorithm, f"use one of {', '.join(ALGORITHMS)}")
    pool = Pool(
        protocol=proxy or port.protocol,
        algorithm=algorithm,
        members=members,
        monitor=_monitor(settings, service, port, local=bool(local)),
        persistence="SOURCE_IP" if service.spec.session_affinity == "ClientIP" else None,
    )
    timeouts = {
        attribute: _int(service, name, minimum=0, maximum=24 * 86_400_000)
        for name, attribute in TIMEOUTS.items()
        if PREFIX + name in service.metadata.annotations
    }
    return Listener(
        protocol=port.protocol,
        port=port.port,
        pool=pool,
        connection_limit=_int(service, "connection-limit", minimum=-1, maximum=2**31 - 1, default=-1),
        allowed_cidrs=frozenset(_cidr(text) for text in service.spec.load_balancer_source_ranges),
        timeouts_ms=tuple(sorted(timeouts.items())),
    )


def _monitor(settings: Settings, service: Service, port: ServicePort, *, local: bool) -> Monitor | None:
    """With externalTrafficPolicy Local the node proxy tells which nodes have a pod (healthCheckNodePort)."""
    if not _bool(service, PREFIX + "enable-health-monitor", default=settings.monitor):
        return None
    kind = "HTTP" if local else "UDP-CONNECT" if port.protocol == "UDP" else "TCP"
    bounds = {"minimum": 1, "maximum": 3600}
    delay = _int(service, "health-monitor-delay", default=settings.monitor_delay_s, **bounds)
    timeout = _int(service, "health-monitor-timeout", default=settings.monitor_timeout_s, **bounds)
    if timeout > delay:
        raise InvalidInput(
            f"annotation {PREFIX}health-monitor-timeout", timeout, f"want at most the delay, {delay} seconds"
        )
    return Monitor(
        type=kind,
        delay_s=delay,
        timeout_s=timeout,
        retries=_int(service, "health-monitor-max-retries", minimum=1, maximum=10, default=settings.monitor_retries),
        retries_down=_int(
            service, "health-monitor-max-retries-down", minimum=1, maximum=10, default=settings.monitor_retries_down
        ),
        path="/healthz" if local else None,
    )


def _bool(service: Service, annotation: str, *, default: bool) -> bool:
    text = service.metadata.annotations.get(annotation)
    if text is None:
        return default
    if text not in ("true", "false"):
        raise InvalidInput(f"annotation {annotation}", text, 'use "true" or "false"')
    return text == "true"


def _int(service: Service, name: str, *, minimum: int, maximum: int, default: int = 0) -> int:
    text = service.metadata.annotations.get(PREFIX + name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        value = minimum - 1
    if not minimum <= value <= maximum:
        raise InvalidInput(f"annotation {PREFIX}{name}", text, f"want a whole number from {minimum} to {maximum}")
    return value


def _choice(service: Service, name: str, choices: dict[str, str | None], default: str) -> str | None:
    text = service.metadata.annotations.get(PREFIX + name, default)
    if text not in choices:
        raise InvalidInput(f"annotation {PREFIX}{name}", text, f"use one of {', '.join(choices)}")
    return choices[text]


def _address(text: str) -> str | None:
    if not text:
        return None
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise InvalidInput("spec.loadBalancerIP", text, "want an IP address") from None


def _cidr(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        raise InvalidInput("spec.loadBalancerSourceRanges", text, "want a CIDR such as 192.0.2.0/24") from None
