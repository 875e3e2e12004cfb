"""Whatever happens to Services, nodes, the cloud and the provider: at rest the cloud holds what the manifests ask for.

Random sequences of changes, refusals, lost answers and kills. `asked` tells from the manifests alone, by OCCM's and
Octavia's documents, what must be there; `found` reads the cloud back.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from tests.provider.conftest import node
from tests.support import provided
from tests.support.kubernetes import Cluster
from tests.support.provided import DEADLINE_S, NODES, Fault, Ground

from vrata.base.clock import monotonic_s
from vrata.kube import resources
from vrata.provider.annotations import BALANCER_ADDRESS, BALANCER_ID, INTERNAL, PREFIX
from vrata.provider.cloud import CloudError

Json = dict[str, Any]
EXAMPLES = int(os.environ.get("VRATA_MODEL_EXAMPLES", "6"))
LENGTH = 12
SERVICES = ("one", "two", "three")
SPARE = "worker-1"  # the node that may go; without any node nobody knows where addresses are
PORTS = (("TCP", 80), ("TCP", 443), ("UDP", 53))

BEHIND = {"": ("TCP", "TCP"), "proxy": ("TCP", "PROXY"), "forward": ("HTTP", "HTTP")}  # listener and pool of a TCP port

Step = Callable[["Model", str, "Wish", int], Awaitable[None]]


@dataclass(frozen=True)
class Wish:
    """A manifest, as far as it differs from others."""

    ports: tuple[tuple[str, int], ...]
    internal: bool = False
    limit: int = -1
    method: str = "ROUND_ROBIN"
    client_ms: int = 50_000
    shape: str = ""
    monitored: bool = True
    sticky: bool = False
    local: bool = False
    ranges: tuple[str, ...] = ()

    def annotations(self) -> dict[str, str | None]:
        """None: the annotation is not there."""
        return {
            INTERNAL: "true" if self.internal else None,
            PREFIX + "connection-limit": None if self.limit < 0 else str(self.limit),
            PREFIX + "lb-method": None if self.method == "ROUND_ROBIN" else self.method,
            PREFIX + "timeout-client-data": None if self.client_ms == 50_000 else str(self.client_ms),
            PREFIX + "proxy-protocol": "true" if self.shape == "proxy" else None,
            PREFIX + "x-forwarded-for": "true" if self.shape == "forward" else None,
            PREFIX + "enable-health-monitor": None if self.monitored else "false",
        }

    def spec(self) -> Json:
        """Whole, so that it makes a merge patch."""
        return {
            "type": "LoadBalancer",
            "ports": [{"name": f"{one}-{port}".lower(), "protocol": one, "port": port} for one, port in self.ports],
            "sessionAffinity": "ClientIP" if self.sticky else "None",
            "externalTrafficPolicy": "Local" if self.local else "Cluster",
            "loadBalancerSourceRanges": list(self.ranges) or None,
        }


WISHES = st.builds(
    Wish,
    ports=st.lists(st.sampled_from(PORTS), min_size=1, max_size=3, unique=True).map(tuple),
    internal=st.sampled_from((False, False, True)),
    limit=st.sampled_from((-1, -1, 7)),
    method=st.sampled_from(("ROUND_ROBIN", "ROUND_ROBIN", "LEAST_CONNECTIONS")),
    client_ms=st.sampled_from((50_000, 50_000, 1234)),
    shape=st.sampled_from(("", "", "proxy", "forward")),
    monitored=st.sampled_from((True, True, False)),
    sticky=st.booleans(),
    local=st.sampled_from((False, False, True)),
    ranges=st.sampled_from(((), (), ("192.0.2.0/24",))),
)


@dataclass
class Model:
    """What was asked for so far."""

    it: Ground
    services: dict[str, Wish] = field(default_factory=dict)
    ready: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(NODES, True))
    excluded: bool = False
    spare: bool = True

    async def living(self) -> None:
        """The provider is at work."""
        if self.it.task is None or self.it.task.done():
            await self.it.start()

    async def apply(self, name: str, wish: Wish) -> None:
        """Create or change, unless it is on its way out."""
        kube, namespace = self.it.kube, self.it.namespace
        body = {"metadata": {"name": name, "annotations": wish.annotations()}, "spec": wish.spec()}
        shown = await self._shown(name)
        if shown and "deletionTimestamp" in shown["metadata"]:
            return
        if shown:
            await kube.patch(resources.SERVICES, name, body, namespace)
        else:
            told = {key: value for key, value in wish.annotations().items() if value is not None}
            whole = body | {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "annotations": told}}
            await kube.create(resources.SERVICES, whole, namespace)
        self.services[name] = wish

    async def _shown(self, name: str) -> Json | None:
        with contextlib.suppress(AssertionError):
            return await self.it.service(name)
        return None

    async def delete(self, name: str) -> None:
        await self.it.kube.delete(resources.SERVICES, name, self.it.namespace)
        self.services.pop(name, None)

    async def retire(self, name: str) -> None:
        """It stays, and wants no load balancer any more."""
        if self.services.pop(name, None):
            spec = {"type": "ClusterIP", "externalTrafficPolicy": None, "loadBalancerSourceRanges": None}
            await self.it.kube.patch(resources.SERVICES, name, {"spec": spec}, self.it.namespace)

    async def set_ready(self, name: str, *, ready: bool) -> None:
        self.ready[name] = ready
        if name != SPARE or self.spare:
            await self.it.set_status(node(name, NODES[name], ready=ready))

    async def exclude(self, *, excluded: bool) -> None:
        self.excluded = excluded
        if self.spare:
            label = "node.kubernetes.io/exclude-from-external-load-balancers" + ("=" if excluded else "-")
            await self.it.kubectl("label", "--overwrite", "node", SPARE, label)

    async def come(self) -> None:
        if not self.spare:
            self.spare, self.ready[SPARE], self.excluded = True, True, False
            body = node(SPARE, NODES[SPARE])
            await self.it.kubectl("apply", "-f", "-", stdin=body)
            await self.it.set_status(body)

    async def go(self) -> None:
        if self.spare:
            self.spare = False
            await self.it.kubectl("delete", "node", SPARE)

    async def spoil(self, fault: Fault) -> None:
        self.it.cloud.faults.append(fault)

    async def kill_at_a_write(self, after: int, *, done: bool) -> None:
        await self.living()
        task = self.it.task
        assert task
        self.it.cloud.faults.append(Fault(after=after, done=done, kill=task.cancel))

    def members(self, port: int, monitor_port: int | None) -> list[Any]:
        """Nodes that are ready, all of them if none is."""
        there = {name for name in NODES if name != SPARE or (self.spare and not self.excluded)}
        healthy = {name for name in there if self.ready[name]} or there
        return sorted((name, NODES[name], port, monitor_port) for name in healthy)


def asked(model: Model, name: str, service: Json) -> Json:
    """What must be in the cloud and in the status for one Service."""
    wish = model.services[name]
    spec = service["spec"]
    assert {(one["protocol"], one["port"]) for one in spec["ports"]} == set(wish.ports)
    health = spec.get("healthCheckNodePort") if wish.local else None
    listeners = {}
    for port in spec["ports"]:
        protocol = port["protocol"]
        outer, inner = BEHIND[wish.shape] if protocol == "TCP" else (protocol, protocol)
        kind = "HTTP" if health else "UDP-CONNECT" if protocol == "UDP" else "TCP"
        listeners[f"{outer}/{port['port']}"] = {
            "limit": wish.limit,
            "client_ms": wish.client_ms,
            "ranges": sorted(wish.ranges) or ["0.0.0.0/0"],
            "pool": (inner, wish.method, "SOURCE_IP" if wish.sticky else None),
            "members": model.members(port["nodePort"], health),
            "monitor": (kind, 5, 3, 1, 3) if wish.monitored else None,
        }
    return {"status": "ACTIVE", "listeners": listeners, "floating": 0 if wish.internal else 1, "loose": 0}


async def found(it: Ground, balancer: Json, floating: list[Json]) -> Json:
    """The same of what is in the cloud."""
    rows = await it.read("listeners", loadbalancer_id=balancer["id"])
    pools = {one["id"]: one for one in await it.read("pools", loadbalancer_id=balancer["id"])}
    monitors = {one["id"]: one for one in await it.read("healthmonitors")}
    listeners = {}
    for row in rows:
        pool = pools.pop(row["default_pool_id"], None)
        monitor = monitors.get(pool.get("healthmonitor_id")) if pool else None
        members = await it.read(f"pools/{pool['id']}/members") if pool else []
        figures = ("type", "delay", "timeout", "max_retries", "max_retries_down")
        listeners[f"{row['protocol']}/{row['protocol_port']}"] = {
            "limit": row["connection_limit"],
            "client_ms": row["timeout_client_data"],
            "ranges": sorted(row["allowed_cidrs"] or ()),
            "pool": (pool["protocol"], pool["lb_algorithm"], (pool["session_persistence"] or {}).get("type"))
            if pool
            else None,
            "members": sorted(
                (one["name"], one["address"], one["protocol_port"], one["monitor_port"]) for one in members
            ),
            "monitor": tuple(monitor[name] for name in figures) if monitor else None,
        }
    held = [one for one in floating if one["port_id"] == balancer["vip_port_id"]]
    status = balancer["provisioning_status"]
    return {"status": status, "listeners": listeners, "floating": len(held), "loose": len(pools)}


async def differences(model: Model) -> list[str]:
    """Between the manifests, the cloud and the Services' statuses; none at rest."""
    it = model.it
    shown = {
        one["metadata"]["name"]: one for one in json.loads(await it.kubectl("get", "services", "-o", "json"))["items"]
    }
    prefix, floating = it.name(""), await it.floating()
    balancers = [one for one in await it.read("loadbalancers") if one["name"].startswith(prefix)]
    told = []
    names = [one["name"].removeprefix(prefix) for one in balancers]
    if sorted(names) != sorted(model.services):
        told.append(f"load balancers {sorted(names)}, Services {sorted(model.services)}")
    held = sum(not wish.internal for wish in model.services.values())
    if len(floating) != held:
        told.append(f"{len(floating)} floating IPs, {held} asked for: {floating}")
    for balancer in balancers:
        name = balancer["name"].removeprefix(prefix)
        if name in model.services and name in shown:
            want, have = asked(model, name, shown[name]), await found(it, balancer, floating)
            if want != have:
                told.append(f"{name}: asked {want}\n    found {have}")
            told += _said(model.services[name], shown[name], balancer, floating)
    for name, service in shown.items():
        shows = service.get("status", {}).get("loadBalancer")
        if name not in model.services and (shows or service["metadata"].get("finalizers")):
            told.append(f"{name} is not let go: {service}")
    return told


def _said(wish: Wish, service: Json, balancer: Json, floating: list[Json]) -> list[str]:
    [address] = [one["floating_ip_address"] for one in floating if one["port_id"] == balancer["vip_port_id"]] or [
        balancer["vip_address"]
    ]
    mode = "Proxy" if wish.shape == "proxy" else "VIP"
    entries = service.get("status", {}).get("loadBalancer", {}).get("ingress")
    told = []
    if entries != [{"ip": address, "ipMode": mode}]:
        told.append(f"status {entries}, address {address} {mode}")
    annotations = service["metadata"].get("annotations", {})
    if (annotations.get(BALANCER_ID), annotations.get(BALANCER_ADDRESS)) != (balancer["id"], address):
        told.append(f"annotations {annotations}, load balancer {balancer['id']} at {address}")
    return told


async def until_right(model: Model) -> None:
    deadline = monotonic_s() + DEADLINE_S
    while told := await _differences_now(model):
        assert monotonic_s() < deadline, "\n".join(told)
        await asyncio.sleep(0.2)


async def _differences_now(model: Model) -> list[str]:
    try:
        return await differences(model)
    except CloudError as error:  # what was listed is gone by now
        return [str(error)]


async def check(model: Model) -> None:
    """At rest all is as asked; then a pass over every Service, and a look for drift, write nothing."""
    it = model.it
    it.cloud.faults.clear()
    await model.living()
    await until_right(model)
    await it.rest()
    it.cloud.calls.clear()
    assert it.provider
    it.provider._settled.clear()
    for key in it.provider.services.objects:
        it.provider.queue.add(key)
    await it.rest()
    await it.provider.check_drift()
    await it.rest()
    writes = [call for call in it.cloud.calls if call[0] != "GET"]
    assert writes == []
    assert await differences(model) == []


async def look(model: Model) -> None:
    """For drift, at any moment."""
    await model.living()
    assert model.it.provider
    await model.it.provider.check_drift()


# What may happen, and how often: to the Service of this name, with this wish, varied by a number.
STEPS: dict[str, tuple[int, Step]] = {
    "apply": (6, lambda model, name, wish, _: model.apply(name, wish)),
    "delete": (2, lambda model, name, _, __: model.delete(name)),
    "retire": (1, lambda model, name, _, __: model.retire(name)),
    "ready": (2, lambda model, _, __, n: model.set_ready(sorted(NODES)[n // 2 % len(NODES)], ready=bool(n % 2))),
    "exclude": (1, lambda model, _, __, n: model.exclude(excluded=bool(n % 2))),
    "come": (1, lambda model, *_: model.come()),
    "go": (1, lambda model, *_: model.go()),
    "refuse": (2, lambda model, _, __, n: model.spoil(Fault(n % 3, (409, 500, 503)[n // 3 % 3]))),
    "lose": (2, lambda model, _, __, n: model.spoil(Fault(n % 3, (500, 503)[n // 3 % 2], done=True))),
    "die": (2, lambda model, _, __, n: model.kill_at_a_write(n % 3, done=n // 3 % 2 == 0)),
    "kill": (1, lambda model, *_: model.it.stop()),
    "start": (2, lambda model, *_: model.living()),
    "look": (1, lambda model, *_: look(model)),
    "pause": (3, lambda *_: asyncio.sleep(0.3)),
}
KINDS = [kind for kind, (often, _) in STEPS.items() for _ in range(often)]
DRAWN = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from(SERVICES), WISHES, st.integers(0, 59)),
    min_size=LENGTH,
    max_size=LENGTH,
)


async def sequence(it: Ground, steps: list[tuple[str, str, Wish, int]]) -> None:
    model = Model(it)
    try:
        for kind, name, wish, number in steps:
            await STEPS[kind][1](model, name, wish, number)
        await check(model)
    finally:
        it.cloud.faults.clear()
        await model.living()
        for name in SERVICES:
            await model.delete(name)
        await model.come()
        await model.exclude(excluded=False)
        for name in NODES:
            await model.set_ready(name, ready=True)
    await until_right(model)


def test_at_rest_the_cloud_holds_what_the_manifests_ask(
    cluster: Cluster, nodes: None, namespace: str, backing: tuple[str, Path | None]
) -> None:
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        it = runner.run(stack.enter_async_context(provided.ground(cluster, namespace, backing)))

        @settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize="VRATA_MODEL_EXAMPLES" not in os.environ,
                  phases=[Phase.generate], suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(steps=DRAWN)
        def drawn(steps: list[tuple[str, str, Wish, int]]) -> None:
            for one in steps:
                note(str(one))
            runner.run(sequence(it, steps))

        try:
            drawn()
        finally:
            runner.run(stack.aclose())
