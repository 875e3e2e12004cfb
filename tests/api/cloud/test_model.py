"""Random legal and illegal calls against the balancing API while hosts fail: no 500, and it always comes to rest.

Hypothesis draws a sequence of steps; each picks its target among what exists by a drawn number, or takes a wrong one.
At rest everything is ACTIVE or ERROR, positions of policies have no gaps; after everything is deleted no row is left.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.support.cloud import Cloud, FakeHost, wait_for

from vrata.cloud.balancing import tables as t
from vrata.cloud.network import tables as n

V2 = "/load-balancer/v2.0/lbaas"
NOWHERE = "00000000-0000-4000-8000-000000000000"
EXAMPLES, STEPS = 10, 60
TREE = (t.l7rules, t.l7policies, t.members, t.health_monitors, t.listeners, t.pools, t.load_balancers, t.instances)
KINDS = ("loadbalancers", "listeners", "pools", "healthmonitors", "l7policies")
WORDS = st.sampled_from(
    ["word", "/path", "", "ünï", "a" * 255, "x" * 300, "'; DROP TABLE pools; --", "a\nb", "%[env(HOME)]"]
)


class World:
    """A cloud with two hosts, and a way to call it."""

    def __init__(self, cloud: Cloud, hosts: list[FakeHost], subnet_id: str) -> None:
        self.cloud, self.hosts, self.subnet_id = cloud, hosts, subnet_id
        self.answered: Counter[tuple[str, str, int]] = Counter()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        status, said, _ = self.cloud.request(method, V2 + path, body, {"X-Auth-Token": self.cloud.token("admin")})
        assert status < 500 or status == 501, (method, path, body, said)
        if method != "GET":
            self.answered[method, path.split("/")[1], status] += 1
        return status, said

    def rows(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("GET", f"/{kind}")[1][kind]
        return found

    def pick(self, kind: str, number: int) -> str:
        """One of what there is, sometimes one that is not."""
        ids = [row["id"] for row in self.rows(kind)]
        return ids[number % len(ids)] if ids and number % 9 != 8 else NOWHERE

    def database(self) -> sa.Engine:
        return sa.create_engine(self.cloud.database or f"sqlite:///{self.cloud.directory / 'cloud.db'}")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    cloud = Cloud(tmp_path_factory.mktemp("model"), None, "--host-timeout-s", "5")
    cloud.start()
    hosts = [FakeHost(cloud, name).start() for name in ("host-a", "host-b")]
    admin = cloud.connect("admin")
    network = admin.network.create_network(name="tenant", provider_physical_network="tenant",
                                           provider_network_type="flat")  # fmt: skip
    subnet = admin.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.10.0.0/22", name="tenant")
    admin.close()
    yield World(cloud, hosts, subnet.id)
    for host in hosts:
        host.stop()
    assert cloud.stop() == 0


def pool(word: str, number: int) -> dict[str, Any]:
    members = [{"address": f"10.10.3.{one + 1}", "protocol_port": 80} for one in range(number % 4)]
    return {"name": word, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members}


# Exception: one flat `match` over all kinds of steps reads better than pieces.
def step(world: World, kind: str, number: int, word: str) -> None:  # noqa: PLR0912, PLR0915
    """One call, or one thing that happens to a host."""
    match kind:
        case "balancer":
            body: dict[str, Any] = {"name": word, "vip_subnet_id": world.subnet_id}
            if number % 2:
                listener = {"protocol": "HTTP", "protocol_port": 80, "default_pool": pool("p", number)}
                body["listeners"] = [listener]
            world.ask("POST", "/loadbalancers", {"loadbalancer": body})
        case "listener":
            owner = world.pick("loadbalancers", number)
            body = {"loadbalancer_id": owner, "protocol": "HTTP", "protocol_port": 80 + number % 5, "name": word}
            world.ask("POST", "/listeners", {"listener": body})
        case "pool":
            body = {"loadbalancer_id": world.pick("loadbalancers", number), **pool(word, number)}
            world.ask("POST", "/pools", {"pool": body})
        case "members":
            members = [
                {"address": f"10.10.3.{one + 1}", "protocol_port": 80, "name": word} for one in range(number % 5)
            ]
            world.ask("PUT", f"/pools/{world.pick('pools', number)}/members", {"members": members})
        case "monitor":
            body = {"type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1 + number % 11}
            body["url_path"] = word if number % 3 == 2 else "/"
            body["pool_id"] = world.pick("pools", number)
            world.ask("POST", "/healthmonitors", {"healthmonitor": body})
        case "policy":
            body = {"listener_id": world.pick("listeners", number), "action": "REJECT", "position": number % 6}
            world.ask("POST", "/l7policies", {"l7policy": body})
        case "move":
            body = {"l7policy": {"position": number % 9}}
            world.ask("PUT", f"/l7policies/{world.pick('l7policies', number)}", body)
        case "rule":
            body = {"type": "PATH", "compare_type": "REGEX" if number % 2 else "EQUAL_TO", "value": word}
            world.ask("POST", f"/l7policies/{world.pick('l7policies', number)}/rules", {"rule": body})
        case "rename":
            collection = KINDS[number % len(KINDS)]
            singular = {"l7policies": "l7policy"}.get(collection, collection[:-1])
            body = {singular: {"name": word, "admin_state_up": bool(number % 3)}}
            world.ask("PUT", f"/{collection}/{world.pick(collection, number)}", body)
        case "delete":
            collection = KINDS[number % len(KINDS)]
            world.ask("DELETE", f"/{collection}/{world.pick(collection, number)}")
        case "cascade":
            world.ask("DELETE", f"/loadbalancers/{world.pick('loadbalancers', number)}?cascade=true")
        case "failover":
            world.ask("PUT", f"/loadbalancers/{world.pick('loadbalancers', number)}/failover")
        case "stall":
            world.hosts[number % 2].applying = False
        case "break":
            world.hosts[number % 2].error = "no space left"
        case "mend":
            mend(world)
            wait_for(lambda: at_rest(world))
        case _:
            raise AssertionError(kind)


def mend(world: World) -> None:
    for host in world.hosts:
        host.applying, host.error = True, None


def at_rest(world: World) -> bool:
    return all(row["provisioning_status"] in {"ACTIVE", "ERROR"} for row in world.rows("loadbalancers"))


def check_positions(world: World) -> None:
    by_listener: dict[str, list[int]] = {}
    for row in world.rows("l7policies"):
        by_listener.setdefault(row["listener_id"], []).append(row["position"])
    for positions in by_listener.values():
        assert sorted(positions) == list(range(1, len(positions) + 1))


ACTIONS = (
    "balancer", "balancer", "listener", "listener", "pool", "members", "monitor", "policy", "policy", "move", "rule",
    "rename", "delete", "cascade", "failover", "stall", "break", *["mend"] * 12,
)  # fmt: skip
# What is drawn depends on the version of Hypothesis and on constants in the code: each answer that must come comes of these.
ALL_KINDS = [
    one
    for kind, number in (
        ("balancer", 1), ("listener", 1), ("listener", 0), ("listener", 8), ("pool", 1), ("members", 1), ("monitor", 0),
        ("monitor", 10), ("policy", 0), ("rename", 5),
    )
    for one in ((kind, number, "word"), ("mend", 0, "word"))
]  # fmt: skip
STEPS_DRAWN = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 1000), WORDS), min_size=STEPS, max_size=STEPS)


def test_whatever_is_called_it_comes_to_rest_and_leaves_nothing(world: World) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(steps=STEPS_DRAWN)
    @example(steps=ALL_KINDS)
    def sequence(steps: list[tuple[str, int, str]]) -> None:
        for kind, number, word in steps:
            step(world, kind, number, word)
        mend(world)
        wait_for(lambda: at_rest(world))
        check_positions(world)
        for row in world.rows("loadbalancers"):
            assert world.ask("DELETE", f"/loadbalancers/{row['id']}?cascade=true")[0] == 204
        wait_for(lambda: not world.rows("loadbalancers"))
        engine = world.database()
        with engine.connect() as connection:
            for table in TREE:
                assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar() == 0, table.name
            names = connection.execute(sa.select(n.ports.c.name)).scalars().all()
        engine.dispose()
        assert not [name for name in names if name.startswith("octavia-lb-")]

    sequence()
    for call in (
        ("POST", "loadbalancers", 201), ("POST", "listeners", 201), ("POST", "pools", 201), ("PUT", "pools", 202),
        ("POST", "healthmonitors", 201), ("POST", "l7policies", 201), ("PUT", "loadbalancers", 202),
        ("POST", "listeners", 409), ("POST", "listeners", 404), ("POST", "healthmonitors", 400),
    ):  # fmt: skip
        assert world.answered[call], f"{call} never came: {world.answered}"
