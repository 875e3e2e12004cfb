"""The security group that lets a Service's traffic in at the nodes (manage-security-groups): pure.

One group a Service, with a rule for each NodePort and for the health port, from the subnet that members are reached from and,
with the provider ovn, from the clients that the Service lets in.
It is added to the ports that hold the members' addresses, beside the groups that these have.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from vrata.kube.objects import Service
from vrata.provider.call import Call, network
from vrata.provider.model import PENDING, Desired, Member, Observed

NAME_MAX = 255
Used = tuple[tuple[str, frozenset[Member]], ...] | None  # what listeners speak, and the members behind them


@dataclass(frozen=True)
class Rule:
    """Lets packets to a port in."""

    protocol: str  # tcp, udp, sctp
    port: int
    cidr: str


@dataclass(frozen=True)
class Port:
    """A Neutron port: who it belongs to, and which groups guard it. `guarded`: it has port security at all."""

    id: str
    addresses: frozenset[str]
    groups: tuple[str, ...]
    guarded: bool = True


@dataclass(frozen=True)
class Group:
    """The group as the cloud has it: its rules with their ids."""

    id: str
    rules: tuple[tuple[Rule, str], ...] = ()
    name: str = ""
    description: str = ""


def group_name(service: Service) -> str:
    """`lb-sg-<uid>-<namespace>-<name>`."""
    metadata = service.metadata
    return f"lb-sg-{metadata.uid}-{metadata.namespace}-{metadata.name}"[:NAME_MAX]


def wanted_rules(desired: Desired, cidr: str) -> frozenset[Rule]:
    """From the members' own ports; `cidr` is where the load balancer asks from."""
    pools = ((one.protocol, one.pool.members) for one in desired.listeners)
    return _rules(pools, frozenset({cidr, *desired.clients}), cidr)


def _rules(pools: Iterable[tuple[str, frozenset[Member]]], sources: frozenset[str], cidr: str) -> frozenset[Rule]:
    rules = set()
    for spoken, members in pools:
        protocol = spoken.lower() if spoken in ("UDP", "SCTP") else "tcp"
        for member in members:
            rules |= {Rule(protocol, member.port, source) for source in sources}
            if member.monitor_port:
                rules.add(Rule("tcp", member.monitor_port, cidr))
    return frozenset(rules)


def wanted_addresses(desired: Desired) -> frozenset[str]:
    """Those of all members."""
    return frozenset(member.address for listener in desired.listeners for member in listener.pool.members)


def plan_group(
    name: str, desired: Desired, cidr: str, group: Group | None, ports: Iterable[Port], used: Used = ()
) -> list[Call]:
    """Calls towards a group that is on every member's port; the first one alone, if there is no group yet.

    `used`: members that the load balancer has at this moment, who keep what they need; None if they are not known, so that
    nothing is taken away.
    """
    if group is None:
        body = {"security_group": {"name": name, "description": desired.description}}
        return [network("POST", "/security-groups", "the Service has none", body)]
    wanted, known = wanted_rules(desired, cidr), dict(group.rules)
    calls = [
        _allow(group.id, rule)
        for rule in sorted(wanted - known.keys(), key=lambda one: (one.protocol, one.port, one.cidr))
    ]
    addresses, off = wanted_addresses(desired), []
    in_use = {member.address for _, members in used or () for member in members}
    for port in ports:
        if port.guarded and port.addresses & addresses:
            if group.id not in port.groups:
                calls.append(_guard(port, (*port.groups, group.id), "a member of the Service"))
        elif group.id in port.groups and not port.addresses & in_use:
            off.append(_without(port, group.id))
    if used is None:
        return calls
    needed = wanted | _rules(used, frozenset({cidr, *desired.clients}), cidr)
    calls += off
    calls += [
        network("DELETE", f"/security-group-rules/{id_}", "the Service has no such port")
        for rule, id_ in group.rules
        if rule not in needed
    ]
    return calls


def members_of(balancer: Observed | None) -> Used:
    """What the load balancer asks at this moment; None while it is busy, when nothing under it is read."""
    if balancer is None:
        return ()
    if balancer.provisioning_status in PENDING:
        return None
    attached = [(one.protocol, one.pool.members) for one in balancer.listeners if one.pool]
    return (*attached, *((one.protocol, one.members) for one in balancer.loose_pools))


def plan_no_group(group: Group, ports: Iterable[Port]) -> list[Call]:
    """Off every port, then away."""
    off = [_without(port, group.id) for port in ports if group.id in port.groups]
    return [*off, network("DELETE", f"/security-groups/{group.id}", "the Service is gone")]


def _allow(group_id: str, rule: Rule) -> Call:
    body = {
        "security_group_id": group_id,
        "direction": "ingress",
        "ethertype": "IPv6" if ":" in rule.cidr else "IPv4",
        "protocol": rule.protocol,
        "port_range_min": rule.port,
        "port_range_max": rule.port,
        "remote_ip_prefix": rule.cidr,
    }
    return network("POST", "/security-group-rules", "a port of the Service", {"security_group_rule": body})


def _without(port: Port, group_id: str) -> Call:
    return _guard(port, tuple(one for one in port.groups if one != group_id), "no member of the Service")


def _guard(port: Port, groups: tuple[str, ...], reason: str) -> Call:
    return network("PUT", f"/ports/{port.id}", reason, {"port": {"security_groups": list(groups)}})
