"""Cluster addresses and node ports of Services, given out as the API server's allocators do.

Allocation is derived from the stored Services, so a restart needs no repair. A request first reserves in a copy of
what the Service holds and the allocator takes it over when the write has succeeded. No I/O.
"""

import ipaddress
import random
from dataclasses import dataclass, field

from vrata.sandbox.apiserver.errors import Cause, Obj, forbidden_field, invalid

Owner = tuple[str, str]  # namespace, name


@dataclass(slots=True)
class Allocator:
    """Who holds which cluster address and (port, protocol)."""

    cidr: ipaddress.IPv4Network
    ports: range
    cidr_6: ipaddress.IPv6Network | None = None  # Services of both families
    addresses: dict[str, Owner] = field(default_factory=dict)
    node_ports: dict[tuple[int, str], Owner] = field(default_factory=dict)

    def hold(self, service: Obj) -> None:
        """Take what a stored Service says."""
        owner = _owner(service)
        spec = service.get("spec") or {}
        for address in _held(spec):
            self.addresses[address] = owner
        for port in spec.get("ports") or []:
            if port.get("nodePort"):
                self.node_ports[port["nodePort"], port.get("protocol", "TCP")] = owner
        if spec.get("healthCheckNodePort"):
            self.node_ports[spec["healthCheckNodePort"], "TCP"] = owner

    def release(self, service: Obj) -> None:
        """Give back everything that this Service holds."""
        owner = _owner(service)
        spec = service.get("spec") or {}
        for address in _held(spec):
            if self.addresses.get(address) == owner:
                del self.addresses[address]
        numbers = {port.get("nodePort") for port in spec.get("ports") or []} | {spec.get("healthCheckNodePort")}
        for key in [key for key, held in self.node_ports.items() if held == owner and key[0] in numbers]:
            del self.node_ports[key]

    def networks(self) -> dict[str, ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """The ranges by family, the first one first."""
        return {"IPv4": self.cidr} | ({"IPv6": self.cidr_6} if self.cidr_6 else {})

    def free_address(self, family: str) -> str | None:
        """A random free address, as the API server picks them; the lower band stays for those asked for."""
        network = self.networks()[family]
        size = network.num_addresses
        band = min(max(16, size // 16), 256)
        for _ in range(64):
            address = str(network[random.randrange(band, size - 1)])
            if address not in self.addresses:
                return address
        return next((str(host) for host in network.hosts() if str(host) not in self.addresses), None)

    def free_port(self, owner: Owner, protocols: set[str], taken: set[int]) -> int | None:
        """A random free node port, for all these protocols."""
        for number in random.sample(self.ports, len(self.ports)):
            if number not in taken and all(self.node_ports.get((number, p), owner) == owner for p in protocols):
                return number
        return None


def _held(spec: Obj) -> list[str]:
    return [address for address in spec.get("clusterIPs") or [spec.get("clusterIP")] if address and address != "None"]


def _owner(service: Obj) -> Owner:
    return service["metadata"].get("namespace", ""), service["metadata"]["name"]


def allocate(service: Obj, old: Obj | None, allocator: Allocator) -> list[Cause]:
    """Complete a Service's addresses and ports in place; the causes say what can not be had."""
    spec = service["spec"]
    before = (old or {}).get("spec") or {}
    _carry_over(spec, before)
    causes = _addresses(service, before, allocator)
    causes += _ports(service, allocator)
    causes += _health_port(service, allocator)
    balanced = service.get("status", {}).get("loadBalancer")
    if spec.get("type") != "LoadBalancer" and balanced == ((old or {}).get("status") or {}).get("loadBalancer"):
        service.setdefault("status", {})["loadBalancer"] = {}  # another write of it is refused
    return causes


def _carry_over(spec: Obj, before: Obj) -> None:
    """What an update leaves out stays (clusterIP, node ports), what its new type can not have goes."""
    _carry_addresses(spec, before)
    _carry_ports(spec, before)
    if spec.get("type") != "LoadBalancer" and before.get("type") == "LoadBalancer":
        _drop_unchanged(spec, before, ("allocateLoadBalancerNodePorts", "loadBalancerClass"))
    if not _needs_health_port(spec):
        _drop_unchanged(spec, before, ("healthCheckNodePort",))
    elif not spec.get("healthCheckNodePort") and before.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = before["healthCheckNodePort"]


def _drop_unchanged(spec: Obj, before: Obj, keys: tuple[str, ...]) -> None:
    """Fields of the old type that the client did not touch; a changed one is left for validation to refuse."""
    for key in keys:
        if key in spec and spec[key] == before.get(key):
            del spec[key]


def _carry_addresses(spec: Obj, before: Obj) -> None:
    keys = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")
    if spec.get("type") == "ExternalName":
        _drop_unchanged(spec, before, (*keys, "internalTrafficPolicy"))
    elif before.get("type") not in (None, "ExternalName"):
        for key in keys:
            if not spec.get(key) and before.get(key):
                spec[key] = before[key]


def _carry_ports(spec: Obj, before: Obj) -> None:
    old_ports, was = before.get("ports") or [], before.get("type")
    if spec.get("type") not in ("NodePort", "LoadBalancer"):
        _drop_leftover_ports(spec, old_ports, was)
        if was in ("NodePort", "LoadBalancer"):
            _drop_unchanged(spec, before, ("externalTrafficPolicy",))
        return
    if not _wants_ports(spec):
        return
    earlier = {(port.get("port"), port.get("protocol")): port.get("nodePort") for port in old_ports}
    used = {port.get("nodePort") for port in spec.get("ports") or []}
    for port in spec.get("ports") or []:
        number = earlier.get((port.get("port"), port.get("protocol")))
        if number and number not in used and not port.get("nodePort"):
            port["nodePort"] = number


def _drop_leftover_ports(spec: Obj, old_ports: list[Obj], was: str | None) -> None:
    if was not in ("NodePort", "LoadBalancer"):
        return
    earlier = {port.get("nodePort") for port in old_ports}
    for port in spec.get("ports") or []:
        if port.get("nodePort") in earlier:
            port.pop("nodePort", None)


def _wants_ports(spec: Obj) -> bool:
    kind = spec.get("type")
    return kind == "NodePort" or (kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False)


def _needs_health_port(spec: Obj) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _addresses(service: Obj, before: Obj, allocator: Allocator) -> list[Cause]:
    spec = service["spec"]
    if spec.get("type") == "ExternalName":
        return []
    given = list(spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else []))
    if given and spec.get("clusterIP"):
        given[0] = spec["clusterIP"]
    families, causes = _families(spec, before, given, allocator)
    if causes:
        return causes
    if given != ["None"]:
        given = given[: len(families)]
        for i, family in enumerate(families):
            if i < len(given):
                cause = _unusable(given[i], family, service, allocator)
            else:
                given.append(allocator.free_address(family) or "")
                said = "failed to allocate IP: range is full"
                cause = None if given[i] else invalid(f"spec.clusterIPs[{i}]", "", said)
            if cause:
                return [cause]
    spec |= {"clusterIP": given[0], "clusterIPs": given, "ipFamilies": families}
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    return []


def _families(spec: Obj, before: Obj, given: list[str], allocator: Allocator) -> tuple[list[str], list[Cause]]:
    """The families of a Service's addresses, in their order (KEP-563, Dual Stack)."""
    configured, policy = list(allocator.networks()), spec.get("ipFamilyPolicy") or "SingleStack"
    if given == ["None"] and not spec.get("selector"):
        return _families_without_selector(spec, configured[0])
    families = list(spec.get("ipFamilies") or [])
    for i, family in enumerate(families):
        if family not in configured:
            return [], [invalid(f"spec.ipFamilies[{i}]", family, "not configured on this cluster")]
    if policy == "RequireDualStack" and len(configured) == 1:
        said = "this cluster is not configured for dual-stack services"
        return [], [invalid("spec.ipFamilyPolicy", policy, said)]
    families = families or ["IPv6" if given and ":" in given[0] and allocator.cidr_6 else "IPv4"]
    if policy != "SingleStack":
        return families + [one for one in configured if one not in families], []
    if len(families) > 1 and families != before.get("ipFamilies"):
        said = "must be RequireDualStack or PreferDualStack when multiple IP families are specified"
        return [], [invalid("spec.ipFamilyPolicy", policy, said)]
    return families[:1], []


def _families_without_selector(spec: Obj, first: str) -> tuple[list[str], list[Cause]]:
    """A headless Service whose endpoints a person names: of both families, also on a cluster that has one."""
    policy = spec.setdefault("ipFamilyPolicy", "RequireDualStack")
    families = list(spec.get("ipFamilies") or [first])
    if policy != "SingleStack" and len(families) == 1:
        families.append("IPv6" if families[0] == "IPv4" else "IPv4")
    return families, []


def _unusable(given: str, family: str, service: Obj, allocator: Allocator) -> Cause | None:
    try:
        address = ipaddress.ip_address(given)
    except ValueError:
        return invalid("spec.clusterIPs[0]", given, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
    network = allocator.networks()[family]
    if address not in network:
        why = "the provided network does not match the current range"
        return invalid("spec.clusterIPs", [given], f"failed to allocate IP {given}: {why}")
    if allocator.addresses.get(given, _owner(service)) != _owner(service):
        return invalid("spec.clusterIPs", [given], f"failed to allocate IP {given}: provided IP is already allocated")
    return None


def _ports(service: Obj, allocator: Allocator) -> list[Cause]:
    spec, owner = service["spec"], _owner(service)
    ports = spec.get("ports") or []
    if spec.get("type") not in ("NodePort", "LoadBalancer"):
        return [
            forbidden_field(f"spec.ports[{i}].nodePort", f"may not be used when `type` is '{spec.get('type')}'")
            for i, port in enumerate(ports)
            if port.get("nodePort")
        ]
    causes = []
    taken: set[int] = set()
    for i, port in enumerate(ports):
        number = port.get("nodePort")
        if not number:
            continue
        where = f"spec.ports[{i}].nodePort"
        if allocator.node_ports.get((number, port.get("protocol", "TCP")), owner) != owner:
            causes.append(invalid(where, number, "provided port is already allocated"))
        elif number not in allocator.ports and (number, port.get("protocol", "TCP")) not in allocator.node_ports:
            span = f"{allocator.ports.start}-{allocator.ports.stop - 1}"
            causes.append(
                invalid(where, number, f"provided port is not in the valid range. The range of valid ports is {span}")
            )
        taken.add(number)
    if not _wants_ports(spec) or causes:
        return causes
    shared: dict[int, int] = {}  # one node port for equal ports of several protocols
    for i, port in enumerate(ports):
        if port.get("nodePort"):
            shared.setdefault(port.get("port", 0), port["nodePort"])
            continue
        number = shared.get(port.get("port", 0))
        if number is None or allocator.node_ports.get((number, port.get("protocol", "TCP")), owner) != owner:
            number = allocator.free_port(owner, {port.get("protocol", "TCP")}, taken)
        if number is None:
            return [invalid(f"spec.ports[{i}].nodePort", 0, "failed to allocate a nodePort: range is full")]
        port["nodePort"] = shared[port.get("port", 0)] = number
        taken.add(number)
    return []


def _health_port(service: Obj, allocator: Allocator) -> list[Cause]:
    spec, owner = service["spec"], _owner(service)
    number = spec.get("healthCheckNodePort")
    if not _needs_health_port(spec):
        return []
    taken = {port.get("nodePort") for port in spec.get("ports") or []}
    if number:
        if allocator.node_ports.get((number, "TCP"), owner) != owner or number in taken:
            return [invalid("spec.healthCheckNodePort", number, "provided port is already allocated")]
        return []
    number = allocator.free_port(owner, {"TCP"}, {port for port in taken if port})
    if number is None:
        return [invalid("spec.healthCheckNodePort", 0, "failed to allocate a HealthCheck NodePort: range is full")]
    spec["healthCheckNodePort"] = number
    return []
