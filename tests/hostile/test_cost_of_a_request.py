"""What 32 kB of anybody's input cost: processor time a request over every endpoint, parameter and field.

The service's own processor time is read from the kernel, so other load on the machine does not count. A request that
is over the bound is tried again: a collection of garbage or a report of a host may fall into it once.
"""

import base64
import contextlib
import http.client
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.support.api_shapes import PREFIX, Ground, parameters_of
from tests.support.cloud import Cloud, FakeHost, wait_for
from tests.support.pki import issue

from vrata.cloud.network.resource import BULK_MAX

BOUND_S = 0.05
USUAL_SHARE = 0.1  # of a core: what the service spends on hosts and sweeps without any request
SIZE = 32 * 1024
TRIES = 3


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    cloud = Cloud(tmp_path_factory.mktemp("cloud"), None, "--network-quota", "none")
    cloud.start()
    hosts = [FakeHost(cloud, name).start() for name in ("host-a", "host-b")]
    ground = Ground(cloud)
    for number in range(20):  # so that a list has something to go through
        ground.ask(
            "POST", "/network/v2.0/ports", {"port": {"network_id": ground.ids["networks"], "name": f"p{number}"}}
        )
    yield ground
    ground.close()
    for host in hosts:
        host.stop()
    assert cloud.stop() == 0


def spent_s(cloud: Cloud) -> float:
    """Processor time of the service so far, all threads, without its children."""
    assert cloud.process is not None
    return time.clock_gettime((~cloud.process.pid << 3) | 2)  # CPUCLOCK_SCHED of a process: see clock_gettime(2)


class Meter:
    """Asks, and keeps what was too expensive."""

    def __init__(self, ground: Ground, bound_s: float = BOUND_S) -> None:
        self.ground, self.bound_s = ground, bound_s
        self.worst: list[tuple[float, str]] = []
        self.asked = 0

    def ask(self, what: str, method: str, path: str, body: Any = None) -> None:
        self.asked += 1
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        least = self._cost(method, path, raw)
        for _ in range(TRIES - 1):
            if least < self.bound_s:
                break
            least = min(least, self._cost(method, path, raw))
        self.worst.append((least, what))

    def _cost(self, method: str, path: str, raw: bytes | None) -> float:
        before = spent_s(self.ground.cloud)
        self.ground.ask(method, path, raw)
        return spent_s(self.ground.cloud) - before

    def verdict(self) -> None:
        self.worst.sort(reverse=True)
        over = [f"{cost * 1000:.0f} ms {what}" for cost, what in self.worst if cost >= self.bound_s]
        print(f"{self.asked} requests; dearest: " + "; ".join(f"{c * 1000:.1f} ms {w}" for c, w in self.worst[:5]))
        assert self.asked
        assert not over, "\n".join(over[:40])


def query(name: str, values: list[str]) -> str:
    return "&".join(f"{name}={quote(value, safe='')}" for value in values)


QUERIES: dict[str, Callable[[str], str]] = {
    "many values": lambda name: query(name, [str(number) for number in range(SIZE // (len(name) + 5))][:999]),
    "more than fit": lambda name: query(name, ["0"] * (SIZE // (len(name) + 2))),
    "commas": lambda name: f"{name}=" + "id,name," * (SIZE // 8),
    "directions": lambda name: f"{name}=" + "id:asc,name:desc," * (SIZE // 17),
    "parts": lambda name: query(name, [f"k{number}=v" for number in range(SIZE // (len(name) + 10))][:999]),
    "pattern": lambda name: f"{name}=" + ".*" * 127,
    "long pattern": lambda name: f"{name}=" + "a.*" * (SIZE // 3),
    "digits": lambda name: f"{name}=" + "9" * SIZE,
}


def test_no_query_costs_more_than_it_should(ground: Ground) -> None:
    meter = Meter(ground)
    for place in ground.places():
        if place.endpoint.method == "GET" and "{" not in place.endpoint.path.replace("{collection}", ""):
            for number, name in enumerate(parameters_of(place)):
                for at, (shape, make) in enumerate(QUERIES.items()):
                    if at == 0 or (at + number) % 4 == 0:  # the first of every parameter, a fourth of the others
                        meter.ask(f"{place} {name}: {shape}", "GET", f"{place.path}?{make(name)}")
    meter.verdict()


def test_what_needs_no_token_costs_next_to_nothing(ground: Ground) -> None:
    meter = Meter(ground, bound_s=0.006)
    for path in ("/load-balancer/openapi.json", "/load-balancer/", "/healthcheck", "/identity/v3", "/network/", "/compute/",
                 "/key-manager/"):  # fmt: skip
        for _ in range(3):
            meter.ask(path, "GET", path)
    least = {path: min(cost for cost, what in meter.worst if what == path) for _, path in meter.worst}
    meter.worst = [(cost, path) for path, cost in least.items()]
    meter.verdict()


VALUES: dict[str, Any] = {
    "text": "a" * SIZE, "digits": "9" * SIZE, "zeros": [0] * (SIZE // 3), "texts": ["x"] * (SIZE // 5),
    "objects": [{}] * (SIZE // 4), "keys": {f"k{number}": 0 for number in range(SIZE // 12)},
    "addresses": [{"ip_address": f"10.9.0.{number % 250}"} for number in range(SIZE // 30)],
    "pairs": [{"ip_address": f"10.9.0.{number % 250}", "mac_address": "aa:bb:cc:dd:ee:ff"} for number in range(SIZE // 65)],
    "prefixes": [f"10.{number % 250}.0.0/16" for number in range(SIZE // 16)],
}  # fmt: skip


def test_no_field_costs_more_than_it_should(ground: Ground) -> None:
    meter = Meter(ground)
    for place in ground.places():
        body = ground.body(place)
        if body is None or (place.api == "identity" and place.endpoint.prepare is not None):
            continue
        for number, field in enumerate(body.fields):
            for at, (shape, value) in enumerate(VALUES.items()):
                if (at + number) % 3 == 0 or isinstance(body.example.get(field), list):
                    meter.ask(
                        f"{place} {field}: {shape}", place.endpoint.method, place.path, body.with_(**{field: value})
                    )
        for shape, raw in (("brackets", b"[" * SIZE), ("keys", b'{"a":' * (SIZE // 5)), ("number", b"9" * SIZE),
                           ("members", b"[" + b"{}," * (SIZE // 3) + b"{}]")):  # fmt: skip
            meter.ask(f"{place}: {shape}", place.endpoint.method, place.path, raw)
        if body.wrapper:
            many: dict[str, Any] = {f"{body.wrapper}s": [{}] * (SIZE // 4)}
            meter.ask(f"{place}: many empty ones", place.endpoint.method, place.path, many)
    meter.verdict()


def test_whole_trees_cost_in_proportion(ground: Ground) -> None:
    """What is really created costs more than a refusal: a bound for each object, in place of one for the request."""
    meter = Meter(ground, bound_s=0.5)
    net, lb = PREFIX["network"], PREFIX["load-balancer"]
    networks = {"networks": [{"name": "x"}] * BULK_MAX}
    ports = {"ports": [{"network_id": ground.ids["networks"], "fixed_ips": [], "security_groups": []}] * BULK_MAX}
    members = [{"address": f"10.9.{n // 250}.{n % 250 + 1}", "protocol_port": 80} for n in range(450)]
    pool = {"name": "p", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members}
    tree = {"loadbalancer": {"name": "t", "vip_subnet_id": ground.ids["subnets"], "pools": [pool]}}
    pools = [{"name": f"p{n}", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"} for n in range(400)]
    wide = {"loadbalancer": {"name": "w", "vip_subnet_id": ground.ids["subnets"], "pools": pools}}
    for what, path, body in (("networks", f"{net}/networks", networks), ("ports", f"{net}/ports", ports),
                             ("members", f"{lb}/loadbalancers", tree), ("pools", f"{lb}/loadbalancers", wide)):  # fmt: skip
        assert len(json.dumps(body)) <= SIZE
        meter.ask(what, "POST", path, body)
    meter.verdict()


class Foreign:
    """Secrets of a tenant, and TLS listeners that ask for them."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    def secret(self, payload: bytes) -> str:
        body = {
            "name": "s", "payload": base64.b64encode(payload).decode(),
            "payload_content_type": "application/octet-stream", "payload_content_encoding": "base64",
        }  # fmt: skip
        status, said = self.ground.ask("POST", f"{PREFIX['key-manager']}/secrets", body)
        assert status == 201, said
        return str(said["secret_ref"])

    def container(self, **parts: bytes) -> str:
        refs = [{"name": name, "secret_ref": self.secret(payload)} for name, payload in parts.items()]
        body = {"name": "c", "type": "certificate", "secret_refs": refs}
        status, said = self.ground.ask("POST", f"{PREFIX['key-manager']}/containers", body)
        assert status == 201, said
        return str(said["container_ref"])

    def listener(self, reference: str) -> tuple[int, Any]:
        body = {
            "loadbalancer_id": self.ground.ids["loadbalancers"], "protocol": "TERMINATED_HTTPS", "protocol_port": 8443,
            "default_tls_container_ref": reference,
        }  # fmt: skip
        return self.ground.ask("POST", f"{PREFIX['load-balancer']}/listeners", {"listener": body})


def patched(raw: bytes, rounds: int) -> bytes:
    """DER with as many rounds (3 bytes) as fit into the same room: minutes of hashing."""
    number = b"\x02\x03" + rounds.to_bytes(3, "big")
    assert number in raw
    return raw.replace(number, b"\x02\x03\x7f\xff\xff")


def slow_pkcs12(tmp_path: Path) -> bytes:
    """A file without a password, so that its MAC is worked out, too."""
    whole = issue("slow.example")
    (tmp_path / "whole").write_text(whole.key_pem + whole.cert_pem)
    command = ["openssl", "pkcs12", "-export", "-in", str(tmp_path / "whole"), "-iter", "40000", "-passout", "pass:"]
    return patched(subprocess.run(command, check=True, capture_output=True).stdout, 40_000)


def slow_key(tmp_path: Path) -> tuple[bytes, bytes]:
    """A certificate, and its encrypted key in PKCS #8."""
    whole = issue("slow.example")
    (tmp_path / "key").write_text(whole.key_pem)
    command = ["openssl", "pkcs8", "-topk8", "-in", str(tmp_path / "key"), "-outform", "DER", "-iter", "40000",
               "-v2", "aes-256-cbc", "-passout", "pass:x"]  # fmt: skip
    made = subprocess.run(command, check=True, capture_output=True)
    return whole.cert_pem.encode(), patched(made.stdout, 40_000)


def test_key_material_that_asks_for_minutes_of_hashing_is_refused_and_costs_others_nothing(
    ground: Ground, tmp_path: Path
) -> None:
    foreign = Foreign(ground)
    certificate, key = slow_key(tmp_path)
    for reference in (
        foreign.secret(slow_pkcs12(tmp_path)),
        foreign.container(certificate=certificate, private_key=key, private_key_passphrase=b"x"),
    ):
        before, began = spent_s(ground.cloud), time.monotonic()
        status, said = foreign.listener(reference)
        assert (status, "Could not retrieve certificate" in said["faultstring"]) == (400, True)
        # The service waits for the child and does its usual work meanwhile: on a busy machine that takes long.
        usual_s = USUAL_SHARE * (time.monotonic() - began)
        assert spent_s(ground.cloud) - before < BOUND_S * 10 + usual_s


def test_while_such_a_key_is_read_others_write(ground: Ground, tmp_path: Path) -> None:
    foreign = Foreign(ground)
    reference = foreign.secret(slow_pkcs12(tmp_path))
    with ThreadPoolExecutor(1) as other:
        elsewhere = Ground.again(ground)
        reading = other.submit(Foreign(elsewhere).listener, reference)
        written = 0
        while not reading.done() and written < 20:
            assert ground.ask("POST", f"{PREFIX['network']}/networks", {"network": {"name": "x"}})[0] == 201
            written += 1
        assert reading.result()[0] == 400
        elsewhere.close()
    assert written > 5  # in the writer's turn; the reading takes at least a second of a child's processor time


def test_good_key_material_is_read_once_and_served(ground: Ground) -> None:
    foreign = Foreign(ground)
    reference = foreign.secret(issue("good.example").pkcs12())
    status, said = wait_for(lambda: (answer := foreign.listener(reference))[0] != 409 and answer)
    assert status == 201, said
    path = f"{PREFIX['load-balancer']}/listeners/{said['listener']['id']}"
    wait_for(lambda: ground.ask("GET", path)[1]["listener"]["provisioning_status"] == "ACTIVE")
    wait_for(lambda: ground.ask("DELETE", path)[0] == 204)


def test_a_service_that_reads_such_a_key_still_ends_when_it_is_told(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, None, "--network-quota", "none")
    cloud.start()
    hosts = [FakeHost(cloud, name).start() for name in ("host-a", "host-b")]
    ground = Ground(cloud)
    foreign = Foreign(ground)
    reference = foreign.secret(slow_pkcs12(tmp_path))
    for host in hosts:
        host.stop()
    assert cloud.process is not None
    children = Path(f"/proc/{cloud.process.pid}/task")

    def reading() -> bool:
        return any((task / "children").read_text().strip() for task in children.iterdir())

    def asked() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            foreign.listener(reference)

    with ThreadPoolExecutor(1) as other:
        other.submit(asked)
        wait_for(reading)
        assert cloud.stop() == 0  # within ten seconds
    ground.close()
