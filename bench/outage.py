"""Part of `make bench-cloud`: many writers and hosts on three replicas, whose database crashes and one of which is killed.

Hosts here speak the agents' side of the wire and apply everything at once, so that what is measured is the cloud.
"""

import asyncio
import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from tests.support.cloud import NETWORKS, SECRET, Cloud, Postgresql, postgresql

from bench.rows import Row, row

Json = dict[str, Any]
REPLICAS, HOSTS = 3, 4
CREATORS, CREATED = 50, 200
WRITERS = int(os.environ.get("WRITERS", "200"))
CALM_S, OUTAGE_S = 6.0, 5.0
SETTLE_MOST_S = 120.0
LBAAS = "/load-balancer/v2.0/lbaas"
FAILURES = (aiohttp.ClientError, OSError, TimeoutError)


class Site:
    """Three replicas on one database, and a client that tries another one when one fails."""

    def __init__(self, cluster: Postgresql, clouds: list[Cloud], session: aiohttp.ClientSession, token: str) -> None:
        self.cluster, self.clouds, self.session, self.token = cluster, clouds, session, token
        self._next = itertools.count()

    async def ask(self, method: str, path: str, body: Json | None = None) -> tuple[int, Any]:
        """One request to the next replica; status 0 if it does not answer."""
        cloud = self.clouds[next(self._next) % len(self.clouds)]
        headers = {"X-Auth-Token": self.token}
        with contextlib.suppress(*FAILURES):
            async with self.session.request(method, cloud.url + path, json=body, headers=headers) as answer:
                return answer.status, await answer.json(content_type=None) if answer.status != 204 else None
        return 0, None

    async def done(self, method: str, path: str, body: Json | None, pause_s: float) -> Any:
        """Ask until it is done; a load balancer that is busy, and a cloud that is away, are asked again."""
        while True:
            status, said = await self.ask(method, path, body)
            if status in (200, 201, 202, 204):
                return said
            if status not in (0, 409, 500, 503):
                raise RuntimeError(f"{method} {path}: {status} {said}")
            await asyncio.sleep(pause_s)


class Host:
    """A host that applies each desired set at once, and asks another replica when one does not answer."""

    def __init__(self, site: Site, name: str) -> None:
        self.site, self.name = site, name
        self.desired: Json = {"revision": 0, "instances": []}
        self._replica = hash(name)

    async def live(self) -> None:
        """Poll and report until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._report())

    async def _send(self, method: str, what: str, **options: Any) -> tuple[int, Any]:
        replica = self._replica
        cloud = self.site.clouds[replica % len(self.site.clouds)]
        url = f"{cloud.url}/agent/v1/hosts/{self.name}/{what}"
        headers = {"Authorization": f"Bearer {SECRET}"}
        try:
            async with self.site.session.request(method, url, headers=headers, **options) as answer:
                return answer.status, await answer.json() if answer.status == 200 else None
        except FAILURES:
            if replica == self._replica:
                self._replica += 1
            await asyncio.sleep(0.1)
            return 0, None

    async def _follow(self) -> None:
        while True:
            about = {"since": self.desired["revision"], "database": self.desired.get("database", ""), "wait_s": 25}
            status, found = await self._send("GET", "desired", params=about, timeout=aiohttp.ClientTimeout(30))
            if status == 200:
                self.desired = found
            elif status != 204:
                await asyncio.sleep(0.1)

    async def _report(self) -> None:
        while True:
            known = self.desired
            instances = [
                {"id": one["id"], "observed_generation": one["generation"], "state": self._state(one)}
                for one in known["instances"]
            ]
            body = {"physical_networks": NETWORKS, "instances": instances}
            about = {"boot": "bench", "number": time.monotonic_ns()}
            await self._send("PUT", "report", json=body, params=about, timeout=aiohttp.ClientTimeout(5))
            for _ in range(20):
                if self.desired is not known:
                    break
                await asyncio.sleep(0.02)

    def _state(self, one: Json) -> str:
        peers = one["vrrp"].get("peer_instances", ())
        return "MASTER" if not peers or one["id"] < min(peers) else "BACKUP"


@contextlib.asynccontextmanager
async def _site() -> AsyncIterator[Site]:
    with postgresql() as cluster, tempfile.TemporaryDirectory() as folder:
        url = cluster("outage")
        clouds: list[Cloud] = []
        try:
            for number in range(REPLICAS):
                directory = Path(folder, str(number))
                directory.mkdir()
                if clouds:  # all of them open what any of them sealed
                    (directory / "keys").write_text((clouds[0].directory / "keys").read_text())
                clouds.append(Cloud(directory, url))
                await asyncio.to_thread(clouds[-1].start)
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(30)) as session:
                yield Site(cluster, clouds, session, await asyncio.to_thread(clouds[0].token))
        finally:
            for cloud in clouds:
                await asyncio.to_thread(cloud.stop)


async def measure() -> list[Row]:
    """All figures."""
    async with _site() as site:
        hosts = [Host(site, f"host-{number}") for number in range(HOSTS)]
        living = [asyncio.create_task(host.live()) for host in hosts]
        try:
            subnet_id = await asyncio.to_thread(_wide_subnet, site.clouds[0])
            rate, balancers = await _creation(site, subnet_id)
            await _settled(site)
            before = {one["id"] for host in hosts for one in host.desired["instances"]}
            settle_s, changes = await _faults(site, balancers)
            after = {one["id"] for host in hosts for one in host.desired["instances"]}
        finally:
            for task in living:
                task.cancel()
            await asyncio.gather(*living, return_exceptions=True)
        deadlocks = (site.cluster.directory / "log").read_text().count("deadlock detected")
    print(f"outage: {changes} changes by {WRITERS} writers", flush=True)
    return [
        row("balancers_created_by_50_writers", rate, "a second", 20.0, least=True),
        row("settled_after_the_last_fault", settle_s, "s", 15.0),
        row("deadlocks", float(deadlocks), "", 0.0),
        row("living_instances_rebuilt", float(len(after - before)), "", 0.0),
    ]


def _wide_subnet(cloud: Cloud) -> str:
    headers = {"X-Auth-Token": cloud.token("admin")}

    def made(kind: str, values: Json) -> str:
        status, said, _ = cloud.request("POST", f"/network/v2.0/{kind}s", {kind: values}, headers, timeout_s=30.0)
        if status != 201:
            raise RuntimeError(said)
        return str(said[kind]["id"])

    physical = {"provider:physical_network": "tenant", "provider:network_type": "flat"}
    network_id = made("network", {"name": "wide", "shared": True, **physical})
    return made("subnet", {"network_id": network_id, "ip_version": 4, "cidr": "10.11.0.0/16"})


async def _creation(site: Site, subnet_id: str) -> tuple[float, list[str]]:
    numbers, made = iter(range(CREATED)), []

    async def create() -> None:
        for number in numbers:
            body = {"loadbalancer": {"name": f"b{number}", "vip_subnet_id": subnet_id}}
            made.append((await site.done("POST", f"{LBAAS}/loadbalancers", body, 0.2))["loadbalancer"]["id"])

    began = time.monotonic()
    await asyncio.gather(*(create() for _ in range(CREATORS)))
    return CREATED / (time.monotonic() - began), made


async def _faults(site: Site, balancers: list[str]) -> tuple[float, int]:
    """Crash the database and kill a replica under writers; seconds from the last fault until all is settled."""
    stop, changes = asyncio.Event(), 0

    async def write(worker: int) -> None:
        nonlocal changes
        for number in itertools.count(1):
            if stop.is_set():
                return
            body = {"protocol": "TCP", "protocol_port": number, "loadbalancer_id": balancers[worker % len(balancers)]}
            status, said = await site.ask("POST", f"{LBAAS}/listeners", {"listener": body})
            if status not in (0, 201, 409, 503):
                raise RuntimeError(f"{status} {said}")
            changes += status == 201
            await asyncio.sleep(1.0)

    writers = [asyncio.create_task(write(number)) for number in range(WRITERS)]
    await asyncio.sleep(CALM_S)
    await asyncio.to_thread(site.cluster.stop)
    await asyncio.sleep(OUTAGE_S)
    await asyncio.to_thread(site.cluster.start)
    await asyncio.sleep(CALM_S)
    await asyncio.to_thread(site.clouds[-1].kill)
    site.clouds[-1].socket.close()  # ours, which would go on accepting for it
    last = time.monotonic()
    stop.set()
    await asyncio.gather(*writers)
    await _settled(site)
    return time.monotonic() - last, changes


async def _settled(site: Site) -> None:
    """Wait until every load balancer is ACTIVE."""
    deadline, states = time.monotonic() + SETTLE_MOST_S, []
    while time.monotonic() < deadline:
        status, found = await site.ask("GET", f"{LBAAS}/loadbalancers?fields=provisioning_status")
        states = [one["provisioning_status"] for one in found["loadbalancers"]] if status == 200 else ["?"]
        if set(states) == {"ACTIVE"}:
            return
        await asyncio.sleep(0.3)
    raise RuntimeError(
        f"not settled after {SETTLE_MOST_S:g} s: {sum(one != 'ACTIVE' for one in states)} are not ACTIVE"
    )
