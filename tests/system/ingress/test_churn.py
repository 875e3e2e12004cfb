"""Very many random changes under load: no request fails, no WebSocket ends, nothing reloads, and the HAProxy that was
changed live ends like one started from the same objects. VRATA_CHURN=10000 makes more changes (`make bench-churn`)."""

import asyncio
import contextlib
import json
import os
import random
import re
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.kubernetes import Cluster, wait_for
from tests.support.pki import Identity, issue
from tests.system.ingress.site import Echoes, Json, Site, endpoint, ingress, secret, service

from vrata.haproxy.process import HaproxyProcess
from vrata.ingress.model import Slot
from vrata.ingress.observe import observe_running, observe_servers
from vrata.ingress.places import Kind

CHANGES = int(os.environ.get("VRATA_CHURN", "300"))
BATCH = 10
NAMES = [f"churn-{number}" for number in range(12)]
HOSTS = [f"h{number}.churn.example" for number in range(8)] + ["*.churn.example"]
PATHS = ["/", "/a", "/a/b", "/c"]
PODS = ["one", "two", "three"]
ANNOTATIONS = [
    {"proxy-read-timeout": "7"},
    {"use-regex": "true"},
    {"rewrite-target": "/new"},
    {"whitelist-source-range": "10.0.0.0/8"},
    {"canary": "true", "canary-weight": "30"},
    {"affinity": "cookie"},
    {"limit-rps": "5"},
    {"enable-cors": "true"},
    {"server-alias": "alias.churn.example"},
    {"from-to-www-redirect": "true"},
    {"backend-protocol": "HTTPS"},
    {"permanent-redirect": "https://elsewhere.example"},
    {"default-backend": "churn-1"},
    {"slow-start": "1s"},
    {"auth-tls-secret": "churn-authority"},
    {
        "backend-protocol": "HTTPS",
        "proxy-ssl-secret": "churn-authority",
        "proxy-ssl-verify": "on",
        "proxy-ssl-name": "p",
    },
]

# The example of RFC 6455, section 1.3.
UPGRADE = (
    "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
UPGRADED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


class Upgrading:
    """A pod that upgrades every connection and then sends back what it gets (RFC 6455 without its frames)."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    @staticmethod
    def _serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(4096)
            connection.sendall(UPGRADED)
            while data := connection.recv(4096):
                connection.sendall(data)

    def close(self) -> None:
        self._listener.close()


def upgraded(site: Site, host: str) -> socket.socket:
    """A connection through HAProxy that the pod has upgraded."""
    made = socket.create_connection(("127.0.0.1", site.http), 5)
    made.sendall(UPGRADE.format(host=host).encode())
    assert b" 101 " in made.recv(4096).partition(b"\r\n")[0]
    return made


def echoes_back(connection: socket.socket) -> bool:
    with contextlib.suppress(OSError):
        connection.sendall(b"still there?")
        return connection.recv(64) == b"still there?"
    return False


def state(site: Site) -> Json:
    """What an HAProxy serves, without the names of its places."""

    async def read() -> Json:
        haproxy = HaproxyProcess(site.directory)
        running = await observe_running(haproxy.runtime, str(site.directory), str(haproxy.tls_dir))
        servers = await observe_servers(haproxy.runtime)

        def named(place: str) -> str:
            return re.sub(rf"[{''.join(Kind)}]-\d{{6}}", lambda slot: str(running.owners.get(Slot(slot[0]))), place)

        rows = {
            f"{scheme} {row}": named(place)
            for scheme, hosts in running.rows.items()
            for found in hosts.values()
            for row, place in found.items()
        }
        patterns = {
            f"{scheme} {host}": [(key, named(place)) for key, place in found]
            for scheme, hosts in running.patterns.items()
            for host, found in hosts.items()
        }
        behind = {backend: sorted(servers.get(slot, {})) for slot, backend in running.owners.items()}
        return {
            "rows": rows,
            "patterns": patterns,
            "policies": sorted(running.policies),
            "servers": behind,
            "certificates": sorted(running.certificates),
            "authorities": running.authorities,
        }

    return asyncio.run(read())


class Churn:
    """Random objects of a few names."""

    def __init__(self, site: Site, echoes: Echoes, chance: random.Random) -> None:
        self.site, self.echoes, self.chance = site, echoes, chance
        self.identities: list[Identity] = [issue(f"churn-{number}", "*.churn.example") for number in range(6)]

    def batch(self) -> None:
        """Some changes at once; what it removes may not be there."""
        objects: list[Json] = []
        gone: list[str] = []
        for _ in range(BATCH):
            name, number = self.chance.choice(NAMES), self.chance.random()
            if number < 0.35:
                objects.append(self._ingress(name))
            elif number < 0.55:
                objects.append(service(name))
            elif number < 0.75:
                pod = self.chance.choice(PODS)
                objects.append(endpoint(name, pod, self.echoes.port(pod), ready=self.chance.random() < 0.8))
            elif number < 0.85:
                objects.append(secret(name, self.chance.choice(self.identities)))
            else:
                kind = self.chance.choice(["ingress", "service", "secret", "endpointslice"])
                gone.append(f"{kind}/{name}" + (f"-{self.chance.choice(PODS)}" if kind == "endpointslice" else ""))
        named = {(one["kind"], one["metadata"]["name"]): one for one in objects}
        self.site.apply(*named.values())
        if gone:
            self.site.cluster.kubectl("delete", "--ignore-not-found", *gone)

    def _ingress(self, name: str) -> Json:
        hosts = self.chance.sample(HOSTS, self.chance.randint(1, 3))
        paths = [
            (host, self.chance.choice(["Exact", "Prefix"]), self.chance.choice(PATHS), self.chance.choice(NAMES))
            for host in hosts
        ]
        tls = {self.chance.choice(NAMES): hosts} if self.chance.random() < 0.4 else None
        annotations = self.chance.choice(ANNOTATIONS) if self.chance.random() < 0.5 else None
        return ingress(name, *paths, tls=tls, annotations=annotations)


@pytest.fixture
def upgrading(site: Site) -> Iterator[Upgrading]:
    made = Upgrading()
    authority = {"ca.crt": issue("authority", authority=True).cert_pem}
    site.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "churn-authority"}, "stringData": authority},
        service("sockets"),
        endpoint("sockets", "upgrading", made.port),
        ingress("sockets", ("sockets.example", "Prefix", "/", "sockets"), ("steady.example", "Prefix", "/", "web")),
    )
    site.until("steady.example", "/", "one")
    wait_for(lambda: site.owner_of("default/sockets:80"), "the sockets' Service has its place")
    yield made
    made.close()
    kinds = [f"{kind}/{name}" for kind in ("ingress", "service", "secret") for name in (*NAMES, "sockets")]
    slices = [f"endpointslice/{name}-{pod}" for name in NAMES for pod in PODS]
    site.cluster.kubectl("delete", "--ignore-not-found", *kinds, *slices, "endpointslice/sockets-upgrading")


def test_the_haproxy_that_was_changed_live_is_like_one_started_anew(
    kubernetes: Cluster, site: Site, echoes: Echoes, upgrading: Upgrading
) -> None:
    assert upgrading.port
    churn = Churn(site, echoes, random.Random(4711))
    worker, reloads = site.worker(), site.reloads()
    sockets = [upgraded(site, "sockets.example") for _ in range(5)]
    with site.load("steady.example") as seen:
        for _ in range(CHANGES // BATCH):
            churn.batch()
    broken = sum(not echoes_back(connection) for connection in sockets)
    report = {"answered": seen.good, "failed": len(seen.bad), "broken": broken, "reloads": site.reloads() - reloads}
    if "VRATA_CHURN_REPORT" in os.environ:
        Path(os.environ["VRATA_CHURN_REPORT"]).write_text(json.dumps(report))
    assert seen.good > CHANGES
    assert not seen.bad
    assert report == {"answered": seen.good, "failed": 0, "broken": 0, "reloads": 0}
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        fresh = Site(kubernetes, Path(folder))
        try:
            fresh.start()
            fresh.until("steady.example", "/", "one")
            wait_for(lambda: state(site) == state(fresh), f"both are alike\n{told(site, fresh)}")
        finally:
            fresh.stop()
    assert all(map(echoes_back, sockets))
    assert (site.worker(), site.reloads()) == (worker, reloads)
    for connection in sockets:
        connection.close()


def told(site: Site, fresh: Site) -> str:
    return "\n".join(json.dumps(state(one), sort_keys=True) for one in (site, fresh))
