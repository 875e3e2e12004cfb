"""What the cloud's Octavia can do, by the version of its API: what an older one lacks is left out, and told. Pure.

What would mean something else without it is refused. Source: Octavia API reference, «API Version History».
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from vrata.base.errors import InvalidInput
from vrata.provider.annotations import PREFIX
from vrata.provider.call import Json
from vrata.provider.model import EVERYBODY, NEWEST, PROTOCOL, Desired, Listener, Note, Problem, Settings, Version

TAGS = 2, 5
FLAVORS = 2, 6
SOURCES = 2, 12
SOURCE_IP_PORT = 2, 13
ZONES = 2, 14
UDP_OVER_HTTP = 2, 16
PROXYV2 = 2, 22
SCTP = 2, 23
ADDITIONAL_VIPS = 2, 26
OVN = "ovn"  # which balances below TCP: no time-outs, source ranges, flavors, zones
UDP_DELAY_LEAST_S = 3
_ID = re.compile(r"v(\d{1,4})\.(\d{1,4})")


def parse_version(body: Json) -> Version:
    """The newest of those that the API's root lists; of one that lists none everything is expected."""
    rows = body.get("versions")
    ids = [_ID.fullmatch(str(row.get("id"))) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return max(((int(one[1]), int(one[2])) for one in ids if one), default=NEWEST)


def fit(desired: Desired, settings: Settings) -> Desired:
    """What of it this cloud can do; a problem for what must not be left out; InvalidInput for a cloud that has no tags."""
    if settings.octavia < TAGS:
        field = "version of the cloud's Octavia API"
        remedy = f"{_text(TAGS)} is the oldest that works: its tags say whose a load balancer is"
        raise InvalidInput(field, _text(settings.octavia), remedy)
    problems = tuple(dict.fromkeys(_refuse(desired, settings)))
    notes = tuple(_lacks(desired, settings))
    has, ovn = settings.octavia, settings.provider == OVN
    families = desired.vip.families if has >= ADDITIONAL_VIPS else desired.vip.families[:1]
    return replace(
        desired,
        flavor_id=desired.flavor_id if has >= FLAVORS and not ovn else "",
        availability_zone=desired.availability_zone if has >= ZONES and not ovn else "",
        vip=replace(desired.vip, families=families),
        listeners=tuple(_listener(one, has) for one in desired.listeners),
        notes=(*desired.notes, *notes),
        problems=(*desired.problems, *problems),
    )


def _refuse(desired: Desired, settings: Settings) -> Iterator[Problem]:
    has = settings.octavia
    for listener in desired.listeners:
        said = f"the cloud's Octavia API is {_text(has)} and has it from"
        if listener.protocol == "SCTP" and has < SCTP:
            remedy = f"use TCP or UDP: {said} {_text(SCTP)}"
            yield Problem("spec.ports", f"SCTP/{listener.port}", remedy, (PROTOCOL,))
        if listener.pool.protocol == "PROXYV2" and has < PROXYV2:
            field = f"annotation {PREFIX}proxy-protocol"
            yield Problem(field, "v2", f"use v1: {said} {_text(PROXYV2)}", (PROTOCOL,))
        if listener.pool.algorithm == "SOURCE_IP_PORT" and has < SOURCE_IP_PORT and settings.provider != OVN:
            field = f"annotation {PREFIX}lb-method"
            yield Problem(field, "SOURCE_IP_PORT", f"use another: {said} {_text(SOURCE_IP_PORT)}", ("lb_algorithm",))


def _lacks(desired: Desired, settings: Settings) -> Iterator[Note]:
    has, ovn = settings.octavia, settings.provider == OVN

    def why(since: Version) -> str:
        return f"the cloud's Octavia API is {_text(has)} and has them from {_text(since)}"

    if desired.flavor_id and (ovn or has < FLAVORS):
        text = "the provider ovn has no flavors" if ovn else why(FLAVORS)
        yield Note("LoadBalancerFlavorIgnored", f"flavor-id {desired.flavor_id}: {text}")
    if desired.availability_zone and (ovn or has < ZONES):
        text = "the provider ovn has no availability zones" if ovn else why(ZONES)
        yield Note("LoadBalancerAvailabilityZonesIgnored", f"availability-zone {desired.availability_zone}: {text}")
    if has < SOURCES and any(one.allowed_cidrs - set(EVERYBODY.values()) for one in desired.listeners):
        text = f"{why(SOURCES)}; restrict with security groups"
        yield Note("LoadBalancerSourceRangesIgnored", f"source ranges refuse nobody: {text}")
    if has < ADDITIONAL_VIPS and len(desired.vip.families) > 1:
        text = f"additional VIPs: {why(ADDITIONAL_VIPS)}; only IPv{desired.vip.families[0]} is served"
        yield Note("SecondFamilyIgnored", f"spec.ipFamilies: {text}")
    if has < UDP_OVER_HTTP and any(_asks_over_http(one) for one in desired.listeners):
        text = f"HTTP monitors of UDP: {why(UDP_OVER_HTTP)}; nodes without a pod get packets"
        yield Note("LocalPolicyIgnored", f"spec.externalTrafficPolicy: {text}")


def _asks_over_http(listener: Listener) -> bool:
    return listener.protocol == "UDP" and listener.pool.monitor is not None and listener.pool.monitor.type == "HTTP"


def _listener(listener: Listener, has: Version) -> Listener:
    if has < SOURCES:
        listener = replace(listener, allowed_cidrs=frozenset())
    monitor = listener.pool.monitor
    if monitor is None or not _asks_over_http(listener) or has >= UDP_OVER_HTTP:
        return listener
    plain = replace(monitor, type="UDP-CONNECT", path=None, delay_s=max(UDP_DELAY_LEAST_S, monitor.delay_s))
    members = frozenset(replace(one, monitor_port=None) for one in listener.pool.members)
    return replace(listener, pool=replace(listener.pool, monitor=plain, members=members))


def _text(version: Version) -> str:
    return ".".join(map(str, version))
