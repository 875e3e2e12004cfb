"""From a Service, the nodes and its slices to what it wants in the cloud: pure.

Names, tags and descriptions are those of the OpenStack cloud controller, so that either sees the other's objects.
What a Service says and nobody can do is a problem, which blocks what it is about; what can be left out is a note.
"""

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from vrata.base.errors import InvalidInput
from vrata.kube.objects import EndpointSlice, Node, Service, ServicePort
from vrata.provider.adopt import OWNER_TAG
from vrata.provider.annotations import (
    BALANCER_ADDRESS,
    BALANCER_ID,
    INTERNAL,
    PREFIX,
    SOURCE_RANGES,
    TARGET,
    Annotations,
)
from vrata.provider.members import Nodes, node_members, pod_members
from vrata.provider.model import (
    ADDRESS,
    EVERYBODY,
    MEMBERS,
    PLACE,
    PROTOCOL,
    BalancerClass,
    Desired,
    Listener,
    Member,
    Monitor,
    Note,
    Pick,
    Pool,
    Problem,
    Settings,
    Vip,
)
from vrata.provider.versions import OVN, UDP_DELAY_LEAST_S, fit

NAME_MAX = 255
CLASS_PREFIX = "vrata.dev/"
FLOATING_FOR = "Floating IP for Kubernetes external service "
# Annotation -> attribute of a listener, and the cloud's default in milliseconds.
TIMEOUTS = {
    "timeout-client-data": ("timeout_client_data", 50_000),
    "timeout-member-connect": ("timeout_member_connect", 5_000),
    "timeout-member-data": ("timeout_member_data", 50_000),
    "timeout-tcp-inspect": ("timeout_tcp_inspect", 0),
}
TIMEOUT_MAX_MS = 24 * 86_400_000
ALGORITHMS = ("ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP", "SOURCE_IP_PORT")
TLS_OPTION = "[LoadBalancer] default-tls-container-ref of cloud.conf"
PROXY = {"false": None, "true": "PROXY", "v1": "PROXY", "v2": "PROXYV2"}
MONITORS = {"TCP": "TCP", "UDP": "UDP-CONNECT", "SCTP": "SCTP"}
DEFAULT_AFFINITY_S = 10_800
T = TypeVar("T")


class _Problems:
    """Collects what the Service says and nobody can do."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    def add(self, error: InvalidInput, *blocks: str) -> None:
        self._found.append(Problem.of(error, *blocks))

    def guard(self, read: Callable[[], T], *blocks: str, default: T) -> T:
        """What `read` finds; `default`, which is not used, where that is wrong."""
        try:
            return read()
        except InvalidInput as error:
            self.add(error, *blocks)
            return default

    def all(self) -> tuple[Problem, ...]:
        return tuple(dict.fromkeys(self._found))


def balancer_name(settings: Settings, service: Service) -> str:
    """`kube_service_<cluster>_<namespace>_<name>`."""
    return f"kube_service_{settings.cluster}_{service.metadata.namespace}_{service.metadata.name}"[:NAME_MAX]


def floating_description(settings: Settings, service: Service) -> str:
    """The owner's mark on a floating IP."""
    return f"{FLOATING_FOR}{service.metadata.key} from cluster {settings.cluster}"


def wants_balancer(service: Service) -> bool:
    """Whether a Service is to be served here: other classes are other controllers'."""
    spec = service.spec
    ours = not spec.load_balancer_class or spec.load_balancer_class.startswith(CLASS_PREFIX)
    return spec.type == "LoadBalancer" and ours and not service.metadata.deletion_timestamp


def desired(
    settings: Settings, service: Service, nodes: Nodes | Iterable[Node], slices: Iterable[EndpointSlice] = ()
) -> Desired:
    """What the Service wants. InvalidInput only for a cloud that is too old for any load balancer."""
    read, problems = Annotations(service), _Problems()
    internal = settings.internal or problems.guard(lambda: read.flag(INTERNAL, default=False), ADDRESS, default=True)
    chosen = problems.guard(lambda: _class(settings, read), PLACE, ADDRESS, default=BalancerClass())
    notes: list[Note] = []
    place = chosen if not internal else BalancerClass()
    vip = problems.guard(lambda: _vip(settings, service, read, place), PLACE, default=Vip(families=_families(service)))
    floats = not internal and vip.families[0] == 4
    if not internal and not floats:
        notes.append(Note("LoadBalancerFloatingIPSkipped", "spec.ipFamilies: IPv6 addresses need no floating IP"))
    fixed = problems.guard(lambda: _fixed_address(service, vip.families[0]), ADDRESS, default=None)
    known = nodes if isinstance(nodes, Nodes) else Nodes(nodes)
    ports = _Ports(settings, service, read, chosen, known, slices, notes, problems)
    chains = tuple(ports.listeners())
    wanted = Desired(
        name=balancer_name(settings, service),
        description=f"Kubernetes external service {service.metadata.key} from cluster {settings.cluster}",
        floating_description=floating_description(settings, service),
        internal=internal,
        listeners=chains,
        owner_tag=OWNER_TAG + settings.cluster_uid if settings.cluster_uid else "",
        vip=replace(vip, address=None if floats else fixed),
        pick=problems.guard(lambda: _pick(settings, read, chosen), ADDRESS, default=Pick()),
        floating_address=fixed if floats else None,
        keep_floating=problems.guard(lambda: read.flag("keep-floatingip", default=False), ADDRESS, default=True),
        balancer_id=problems.guard(lambda: read.id(BALANCER_ID), PLACE, default=""),
        known_address=read.text(BALANCER_ADDRESS),
        legacy_name=legacy_name(service),
        tls_field=ports.tls_field,
        provider=settings.provider,
        flavor_id=problems.guard(lambda: read.id("flavor-id"), PLACE, default="") or settings.flavor_id,
        availability_zone=read.text("availability-zone") or settings.availability_zone,
        proxy_protocol=ports.proxy is not None,
        hostname=read.text("hostname"),
        hostname_suffix=settings.ingress_hostname_suffix if settings.ingress_hostname else "",
        clients=ports.clients(),
        notes=tuple(dict.fromkeys(notes)),
    )
    return fit(replace(wanted, problems=problems.all()), settings)


def leaving(settings: Settings, service: Service) -> Desired:
    """Whose objects go; whatever else the Service says may be wrong, and what it names may be gone already."""
    read = Annotations(service)
    try:
        balancer_id = read.id(BALANCER_ID)
    except InvalidInput:
        balancer_id = ""
    return Desired(
        name=balancer_name(settings, service),
        description="",
        floating_description=floating_description(settings, service),
        internal=False,
        listeners=(),
        owner_tag=OWNER_TAG + settings.cluster_uid if settings.cluster_uid else "",
        keep_floating=read.text("keep-floatingip") == "true",
        balancer_id=balancer_id,
        known_address=read.text(BALANCER_ADDRESS) or "gone",
        legacy_name=legacy_name(service),
    )


def legacy_name(service: Service) -> str:
    """What Kubernetes itself called a load balancer before controllers had names of their own."""
    return f"a{service.metadata.uid.replace('-', '')}"[:32]


def _class(settings: Settings, read: Annotations) -> BalancerClass:
    name, known = read.text("class"), dict(settings.classes)
    if name and name not in known:
        remedy = f"use one of {', '.join(sorted(known))}" if known else "the configuration has no [LoadBalancerClass]"
        raise InvalidInput("annotation loadbalancer.openstack.org/class", name, remedy)
    return known.get(name, BalancerClass())


def _families(service: Service) -> tuple[int, ...]:
    return tuple(6 if family == "IPv6" else 4 for family in service.spec.ip_families) or (4,)


def _vip(settings: Settings, service: Service, read: Annotations, chosen: BalancerClass) -> Vip:
    families = _families(service)
    port_id = read.id("port-id")
    if port_id:
        return Vip(port_id=port_id, families=families)
    subnet_id = chosen.subnet_id or read.id("subnet-id") or settings.subnet_id
    network_id = chosen.network_id or read.id("network-id") or settings.network_id
    return Vip(subnet_id=subnet_id, network_id="" if subnet_id else network_id, families=families)


def _pick(settings: Settings, read: Annotations, chosen: BalancerClass) -> Pick:
    return Pick(
        chosen.floating_network_id or read.id("floating-network-id") or settings.floating_network_id,
        chosen.floating_subnet_id or read.id("floating-subnet-id") or settings.floating_subnet_id,
        chosen.floating_subnet or read.text("floating-subnet") or settings.floating_subnet,
        chosen.floating_subnet_tags or read.text("floating-subnet-tags") or settings.floating_subnet_tags,
    )


def _fixed_address(service: Service, version: int) -> str | None:
    text = service.spec.load_balancer_ip
    if not text:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidInput("spec.loadBalancerIP", text, "use an IP address") from None
    if address.version != version:
        raise InvalidInput("spec.loadBalancerIP", text, f"use an IPv{version} address: spec.ipFamilies begins with it")
    return str(address)


class _Ports:
    """The listeners of one Service; collects notes."""

    def __init__(
        self,
        settings: Settings,
        service: Service,
        read: Annotations,
        chosen: BalancerClass,
        nodes: Nodes,
        slices: Iterable[EndpointSlice],
        notes: list[Note],
        problems: _Problems,
    ) -> None:
        self.settings, self.service, self.read, self.slices, self.notes = settings, service, read, slices, notes
        self.problems = problems
        self.ovn = settings.provider == OVN
        self.proxy = problems.guard(lambda: read.choice("proxy-protocol", PROXY, "false"), PROTOCOL, default=None)
        self.forwards = problems.guard(lambda: read.flag("x-forwarded-for", default=False), PROTOCOL, default=False)
        own_ref = problems.guard(lambda: read.reference("default-tls-container-ref"), PROTOCOL, default="")
        self.tls_ref = own_ref or settings.tls_container_ref
        self.tls_field = f"annotation {PREFIX}default-tls-container-ref" if own_ref else TLS_OPTION
        own_subnet = problems.guard(lambda: read.id("member-subnet-id"), MEMBERS, default="")
        self.subnet_id = own_subnet or chosen.member_subnet_id or settings.member_subnet_id or None
        target = problems.guard(
            lambda: read.choice(TARGET, {"node": None, "pod": "pod"}, "node"), MEMBERS, default=None
        )
        self.pods = target is not None
        if self.proxy and self.forwards:
            field = "annotation loadbalancer.openstack.org/proxy-protocol"
            remedy = "leave it out, or x-forwarded-for: they exclude each other"
            problems.add(InvalidInput(field, read.text("proxy-protocol"), remedy), PROTOCOL)
        self.families = _families(service)
        self.version = self.families[0]
        selector = read.text("node-selector") or settings.node_selector
        self.nodes: tuple[tuple[str, str], ...] = problems.guard(
            lambda: nodes.serving(selector, self.version), MEMBERS, default=()
        )
        if not self.nodes and not self.pods:
            chosen_by = f" of those with {selector} (node-selector)" if selector else ""
            message = f"no node{chosen_by} has an IPv{self.version} address and may serve; nobody is behind the address"
            notes.append(Note("UnAvailableLoadBalancer", message))
        local = service.spec.external_traffic_policy == "Local" and not self.pods and not self.ovn
        self.health_port = (service.spec.health_check_node_port or None) if local else None
        everybody = frozenset(EVERYBODY[version] for version in self.families)
        self.sources = problems.guard(self._sources, "allowed_cidrs", default=everybody)

    def listeners(self) -> Iterable[Listener]:
        for port in self.service.spec.ports:
            yield self._listener(port)

    def _listener(self, port: ServicePort) -> Listener:
        tcp = port.protocol == "TCP"
        secure = self.tls_ref if tcp else ""
        protocol = "TERMINATED_HTTPS" if secure else "HTTP" if tcp and self.forwards else port.protocol
        timeouts = {
            attribute: self._number(name, 0, TIMEOUT_MAX_MS, default, attribute)
            for name, (attribute, default) in TIMEOUTS.items()
        }
        return Listener(
            protocol=protocol,
            port=port.port,
            pool=self._pool(port, protocol),
            connection_limit=self._number("connection-limit", -1, 2**31 - 1, -1, "connection_limit"),
            allowed_cidrs=frozenset() if self.ovn else self.sources,
            timeouts_ms=() if self.ovn else tuple(sorted(timeouts.items())),
            tls_ref=secure or None,
            forwards_client=tcp and self.forwards,
        )

    def _number(self, name: str, least: int, most: int, default: int, blocks: str) -> int:
        return self.problems.guard(lambda: self.read.number(name, least, most, default), blocks, default=default)

    def _pool(self, port: ServicePort, protocol: str) -> Pool:
        tcp = port.protocol == "TCP"
        behind = {"HTTP": "HTTP", "TERMINATED_HTTPS": "HTTP"}.get(protocol, protocol)
        sticky = self.service.spec.session_affinity == "ClientIP"
        return Pool(
            protocol=(self.proxy if tcp else None) or behind,
            algorithm=self.problems.guard(self._algorithm, "lb_algorithm", default=self._usual_algorithm()),
            members=self._members(port),
            monitor=self.problems.guard(
                lambda: self._monitor(port), "healthmonitor", default=self._default_monitor(port)
            ),
            persistence="SOURCE_IP" if sticky else None,
            persistence_timeout_s=self._affinity_s(tcp=tcp) if sticky else None,
        )

    def _members(self, port: ServicePort) -> frozenset[Member]:
        if self.pods:
            return pod_members(self.slices, self.service, port, self.version, self.subnet_id)
        if not port.node_port:
            text = f"spec.ports: {port.protocol}/{port.port} has no nodePort and so no members; allow node ports, or "
            self.notes.append(Note("NoNodePort", f"{text}set the annotation {TARGET}: pod"))
        return node_members(self.nodes, port, monitor_port=self.health_port, subnet_id=self.subnet_id)

    def _usual_algorithm(self) -> str:
        return self.settings.algorithm if self.settings.algorithm in ALGORITHMS else ALGORITHMS[0]

    def _algorithm(self) -> str:
        if self.ovn:
            return "SOURCE_IP_PORT"
        found = self.read.text("lb-method") or self.settings.algorithm
        if found not in ALGORITHMS:
            field = "annotation loadbalancer.openstack.org/lb-method"
            raise InvalidInput(field, found, f"use one of {', '.join(ALGORITHMS)}")
        return found

    def _affinity_s(self, *, tcp: bool) -> int | None:
        """Only pools of UDP and SCTP take a time (Octavia API v2, session_persistence)."""
        config = self.service.spec.session_affinity_config
        seconds = config.client_ip.timeout_seconds if config and config.client_ip else DEFAULT_AFFINITY_S
        if not tcp:
            return seconds
        if seconds != DEFAULT_AFFINITY_S:
            message = (
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: the cloud keeps its own time for TCP; leave it out"
            )
            self.notes.append(Note("SessionAffinityTimeoutIgnored", message))
        return None

    def clients(self) -> frozenset[str]:
        """The provider ovn leaves packets the address that they came from, and refuses nobody itself."""
        return self.sources if self.ovn else frozenset()

    def _sources(self) -> frozenset[str]:
        field, texts = "spec.loadBalancerSourceRanges", list(self.service.spec.load_balancer_source_ranges)
        if not texts and (text := self.read.text(SOURCE_RANGES)):
            field, texts = f"annotation {SOURCE_RANGES}", text.split(",")
        found = frozenset(_cidr(field, text) for text in texts)
        if found and self.ovn and not self.settings.manage_security_groups:
            message = f"{field}: the provider ovn refuses nobody; restrict with security groups"
            self.notes.append(Note("LoadBalancerSourceRangesIgnored", message))
        usable = frozenset(one for one in found if (6 if ":" in one else 4) in self.families)
        named = " and ".join(f"IPv{version}" for version in self.families)
        if found and not usable:
            raise InvalidInput(field, ", ".join(texts), f"name {named} ranges: the load balancer has no other address")
        if found != usable:
            left_out = ", ".join(sorted(found - usable))
            message = f"{field}: {left_out} admits no client, the load balancer has {named} addresses only; remove it"
            self.notes.append(Note("LoadBalancerSourceRangesIgnored", message))
        return usable or frozenset(EVERYBODY[version] for version in self.families)

    def _monitor(self, port: ServicePort) -> Monitor | None:
        """With externalTrafficPolicy Local the node proxy tells which nodes have a pod: that question is always asked."""
        read, known = self.read, self._configured_monitor(port)
        if not read.flag("enable-health-monitor", default=self._default_monitor(port) is not None):
            return None
        least = UDP_DELAY_LEAST_S if known.type == "UDP-CONNECT" else 1
        delay = read.number("health-monitor-delay", least, 3600, known.delay_s)
        timeout = read.number("health-monitor-timeout", 1, 3600, min(self.settings.monitor_timeout_s, delay))
        if timeout > delay:
            field = "annotation loadbalancer.openstack.org/health-monitor-timeout"
            raise InvalidInput(field, timeout, f"use at most the delay, {delay} seconds")
        return replace(
            known,
            delay_s=delay,
            timeout_s=timeout,
            retries=read.number("health-monitor-max-retries", 1, 10, known.retries),
            retries_down=read.number("health-monitor-max-retries-down", 1, 10, known.retries_down),
        )

    def _default_monitor(self, port: ServicePort) -> Monitor | None:
        """What a port has of which its annotations say nothing."""
        asked = self.settings.monitor or self.health_port is not None
        return self._configured_monitor(port) if asked else None

    def _configured_monitor(self, port: ServicePort) -> Monitor:
        settings, local = self.settings, self.health_port is not None
        kind = "HTTP" if local else MONITORS.get(port.protocol, port.protocol)
        delay = max(UDP_DELAY_LEAST_S if kind == "UDP-CONNECT" else 1, settings.monitor_delay_s)
        return Monitor(
            type=kind,
            delay_s=delay,
            timeout_s=min(settings.monitor_timeout_s, delay),
            retries=settings.monitor_retries,
            retries_down=settings.monitor_retries_down,
            path="/healthz" if local else None,
        )


def _cidr(field: str, text: str) -> str:
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        raise InvalidInput(field, text[:100], "use CIDRs such as 192.0.2.0/24") from None
