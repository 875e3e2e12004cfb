"""The public address of a Service: which floating IP, from which subnet, and when it goes. Pure.

One that is on the VIP's port is kept; else the one that spec.loadBalancerIP names; else one of ours that a crash left on no
port; else a new one, from the first of the subnets asked for that has room.
"""

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from vrata.base.errors import InvalidInput
from vrata.provider.call import Call, Json, network
from vrata.provider.model import Desired, FloatingIp, Note, Observed, Pick, Subnet, World

_QUANTIFIERS_MAX = 3
_PATTERN_MAX = 128
FLOATING_SUBNET = "annotation loadbalancer.openstack.org/floating-subnet"


@dataclass(frozen=True)
class FloatingPlan:
    """Calls for the floating IP, and what stands in the way of it."""

    calls: tuple[Call, ...] = ()
    problem: str | None = None
    notes: tuple[Note, ...] = ()
    none: bool = False  # there is no network to take one from: the VIP is the address


def plan_floating(desired: Desired, world: World, balancer: Observed) -> FloatingPlan:
    """What brings the floating IP to what is desired."""
    held, port_id, wanted = world.floating, balancer.vip_port_id, desired.floating_address
    if not desired.floats:
        return FloatingPlan(release(held, delete=held.ours and not desired.keep_floating) if held else ())
    if held and wanted in (None, held.address):
        return FloatingPlan()
    found = world.wanted_floating
    if held and not found:  # its successor is had before it is given back; the next plan puts that one on the port
        return FloatingPlan((_create(desired, world, None),))
    if wanted and found:
        if found.port_id and found.port_id != port_id:
            return FloatingPlan(problem=f"spec.loadBalancerIP: floating IP {wanted} is in use; free it or name another")
        return FloatingPlan(_in_place_of(held, found, port_id, keep=desired.keep_floating))
    if not wanted and world.stray_floating:
        return FloatingPlan((attach(world.stray_floating[0], port_id, "found again by its description"),))
    if world.floating_network_id is None:
        message = "the cloud has no external network with an IPv4 subnet: the VIP is the address; name one with the annotation"
        note = Note("LoadBalancerForcedInternal", f"{message} loadbalancer.openstack.org/floating-network-id")
        return FloatingPlan(notes=(note,), none=True)
    return FloatingPlan((_create(desired, world, port_id),))


def _in_place_of(held: FloatingIp | None, found: FloatingIp, port_id: str, *, keep: bool) -> tuple[Call, ...]:
    """The old one makes room only where the cloud says that it is in the way, and ends when the new one is on the port."""
    call = attach(found, port_id, "spec.loadBalancerIP names it")
    if held is None:
        return (call,)
    room = attach(held, None, f"{found.address} takes its place")
    back = attach(held, port_id, f"{found.address} was refused")
    delete = held.ours and not keep
    end = (network("DELETE", f"/floatingips/{held.id}", "no longer wanted"),) if delete else (room,)
    return (replace(call, room=room, otherwise=back), *end)


def plan_guest_address(desired: Desired, world: World, balancer: Observed) -> FloatingPlan:
    """For a Service on a load balancer of another: the address is the owner's, and nothing of it changes.

    A public Service must not put a public address before others' ports, nor an internal one take theirs away.
    """
    held, wanted = world.floating, desired.floating_address
    if desired.internal and held:
        remedy = "remove the annotation that makes it internal, or use a load balancer of its own"
        return FloatingPlan(problem=f"load balancer {balancer.id} of another has a public address; {remedy}")
    if desired.floats and not held:
        remedy = "make this Service internal, too, or use a load balancer of its own"
        return FloatingPlan(problem=f"load balancer {balancer.id} of another has no public address; {remedy}")
    if held and wanted not in (None, held.address):
        message = f"spec.loadBalancerIP: {wanted} is not the address of load balancer {balancer.id} of another"
        return FloatingPlan(problem=f"{message}, which has {held.address}; remove the field")
    return FloatingPlan()


def _create(desired: Desired, world: World, port_id: str | None) -> Call:
    base: Json = {"floating_network_id": world.floating_network_id, "description": desired.floating_description}
    if port_id:
        base["port_id"] = port_id
    if desired.floating_address:
        base["floating_ip_address"] = desired.floating_address
    subnets: list[str] = [desired.pick.subnet_id] if desired.pick.subnet_id else []
    if not subnets and world.floating_subnets is not None:
        subnets = [one.id for one in matching(desired.pick, world.floating_subnets)]
    bodies = tuple({"floatingip": {**base, "subnet_id": one}} for one in subnets) or ({"floatingip": base},)
    return network("POST", "/floatingips", "the Service is external", bodies[0], instead=bodies[1:])


def attach(floating: FloatingIp, port_id: str | None, reason: str) -> Call:
    """Put it on a port; None: take it off."""
    return network("PUT", f"/floatingips/{floating.id}", reason, {"floatingip": {"port_id": port_id}})


def release(floating: FloatingIp, *, delete: bool, reason: str = "no longer wanted") -> tuple[Call, ...]:
    """Delete it, or only take it off its port."""
    if delete:
        return (network("DELETE", f"/floatingips/{floating.id}", reason),)
    return (attach(floating, None, f"{reason}; the address is kept"),) if floating.port_id else ()


def asks_for_subnets(pick: Pick) -> bool:
    """Whether the subnets of the floating network must be known."""
    return not pick.subnet_id and bool(pick.subnet or pick.subnet_tags)


def check_pick(desired: Desired, world: World) -> None:
    """InvalidInput if no subnet is as the Service wants it."""
    if desired.floats and world.floating_subnets is not None and not world.floating:
        matching(desired.pick, world.floating_subnets)


def matching(pick: Pick, subnets: Iterable[Subnet]) -> list[Subnet]:
    """The IPv4 subnets that a name pattern and tags choose, in the cloud's order; InvalidInput if there is none.

    Pattern: a glob, `~` before a regular expression, `!` before either negates. Tags: `a,b` any, `a&b` all, `!` negates.
    """
    four = [one for one in subnets if one.version == 4]
    found = [one for one in four if _named(pick.subnet, one.name) and _tagged(pick.subnet_tags, one.tags)]
    if not found:
        known = ", ".join(one.name for one in four) or "none"
        raise InvalidInput(FLOATING_SUBNET, pick.subnet or pick.subnet_tags, f"choose one of: {known}")
    return found


def _named(pattern: str, name: str) -> bool:
    if not pattern:
        return True
    negated, rest = pattern.startswith("!"), pattern.removeprefix("!")
    if rest.startswith("~"):
        matches = _regex(rest[1:], pattern).search(name) is not None
    else:
        matches = fnmatch.fnmatchcase(name, rest)
    return matches != negated


def _regex(text: str, pattern: str) -> re.Pattern[str]:
    """A regular expression that can not take long: who writes an annotation must not hold up everybody else."""
    simple = len(text) <= _PATTERN_MAX and not re.search(r"\)[*+?{]|\(\?", text)
    if not simple or len(re.findall(r"[*+{]", text)) > _QUANTIFIERS_MAX:
        remedy = f"use a shorter one: at most {_QUANTIFIERS_MAX} of * + {{, none of them after a group"
        raise InvalidInput(FLOATING_SUBNET, pattern[:200], remedy)
    try:
        return re.compile(text)
    except re.error as error:
        raise InvalidInput(FLOATING_SUBNET, pattern, f"use a regular expression ({error})") from None


def _tagged(wanted: str, tags: frozenset[str]) -> bool:
    if not wanted:
        return True
    negated, rest = wanted.startswith("!"), wanted.removeprefix("!")
    if "&" in rest:
        matches = {tag.strip() for tag in rest.split("&")} <= tags
    else:
        matches = any(tag.strip() in tags for tag in rest.split(","))
    return matches != negated
