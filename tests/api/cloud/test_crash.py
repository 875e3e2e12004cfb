"""kill -9 of the cloud on both sides of every commit of every operation, and of its database under writes.

A client that is cut off looks whether its wish was heard, and says it again if not. When everything is deleted, each
table has as many rows as if nobody had died.
"""

import contextlib
import http.client
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.support.cloud import Cloud, FakeHost, Postgresql, postgresql, wait_for

LBAAS, NETWORK = "/load-balancer/v2.0/lbaas", "/network/v2.0"
MOST_INSTANTS = 100
Json = dict[str, Any]


class Client:
    """A tenant who does not give up."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def ask(self, method: str, path: str, body: Json | None = None) -> tuple[int, Any]:
        """One request; status 0 if the cloud died of it."""
        try:
            return self.cloud.request(method, path, body, {"X-Auth-Token": self.cloud.token()}, timeout_s=30.0)[:2]
        except (OSError, http.client.HTTPException):
            return 0, {}

    def listed(self, path: str, key: str) -> list[Json]:
        """What a collection holds."""
        status, body = wait_for(lambda: answer if (answer := self.ask("GET", path))[0] == 200 else None)
        assert status == 200
        return list(body[key])

    def done(self, method: str, path: str, body: Json | None, heard: Callable[[], object]) -> None:
        """Ask until it is so; a busy load balancer is asked again."""

        def once() -> object:
            if heard():
                return True
            status, said = self.ask(method, path, body)
            assert status in (0, 200, 201, 204, 404, 409), (status, said)
            return heard()

        wait_for(once)

    def balancers(self) -> list[Json]:
        return self.listed(f"{LBAAS}/loadbalancers", "loadbalancers")

    def settled(self) -> bool:
        """Whether all load balancers are ACTIVE."""
        return all(one["provisioning_status"] == "ACTIVE" for one in self.balancers())


def create(client: Client, subnet_id: str) -> None:
    member = {"address": "10.10.0.5", "protocol_port": 80}
    pool = {"name": "p", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member]}
    listener = {"name": "l", "protocol": "HTTP", "protocol_port": 80, "default_pool": pool}
    body = {"loadbalancer": {"name": "b", "vip_subnet_id": subnet_id, "listeners": [listener]}}
    client.done("POST", f"{LBAAS}/loadbalancers", body, client.balancers)


def update(client: Client, _subnet_id: str) -> None:
    [balancer] = client.balancers()
    body = {"listener": {"loadbalancer_id": balancer["id"], "name": "m", "protocol": "TCP", "protocol_port": 81}}
    client.done("POST", f"{LBAAS}/listeners", body, lambda: len(client.listed(f"{LBAAS}/listeners", "listeners")) == 2)


def attach(client: Client, _subnet_id: str) -> None:
    [balancer] = client.balancers()
    [network] = client.listed(f"{NETWORK}/networks?name=external", "networks")
    body = {"floatingip": {"floating_network_id": network["id"], "port_id": balancer["vip_port_id"]}}
    path = f"{NETWORK}/floatingips"
    client.done("POST", path, body, lambda: client.listed(path, "floatingips"))


def detach(client: Client, _subnet_id: str) -> None:
    path = f"{NETWORK}/floatingips"
    [floating] = client.listed(path, "floatingips")
    client.done("DELETE", f"{path}/{floating['id']}", None, lambda: not client.listed(path, "floatingips"))


def delete(client: Client, _subnet_id: str) -> None:
    [balancer] = client.balancers()
    path = f"{LBAAS}/loadbalancers/{balancer['id']}?cascade=true"
    client.done("DELETE", path, None, lambda: not client.balancers())


OPERATIONS = (create, update, attach, detach, delete)


def rows(cloud: Cloud) -> dict[str, int]:
    """How many rows each table has; what happened is history, and stays."""
    engine = sa.create_engine(cloud.database or f"sqlite:///{cloud.directory / 'cloud.db'}")
    try:
        with engine.connect() as connection:
            count = sa.select(sa.func.count())
            names = [name for name in sa.inspect(connection).get_table_names() if name != "transitions"]
            return {name: int(connection.scalar(count.select_from(sa.table(name))) or 0) for name in names}
    finally:
        engine.dispose()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgresql]:
    with postgresql() as made:
        yield made


@contextlib.contextmanager
def site(directory: Path, database: str | None, *, mortal: bool) -> Iterator[tuple[Cloud, str]]:
    """A cloud with two hosts and both networks; the id of the tenant's subnet."""
    cloud = Cloud(directory, database, mortal=mortal)
    cloud.start()
    admin = cloud.connect("admin")
    hosts = []
    try:
        hosts = [FakeHost(cloud, name).start() for name in ("host-a", "host-b")]
        made = {}
        for name, external, cidr in (("external", True, "203.0.113.0/24"), ("tenant", False, "10.10.0.0/24")):
            network = admin.network.create_network(
                name=name, is_router_external=external, is_shared=True,
                provider_physical_network=name, provider_network_type="flat",
            )  # fmt: skip
            made[name] = admin.network.create_subnet(network_id=network.id, ip_version=4, cidr=cidr).id
        router = admin.network.create_router(external_gateway_info={"network_id": network_of(admin, "external")})
        admin.network.add_interface_to_router(router, subnet_id=made["tenant"])
        yield cloud, made["tenant"]
    finally:
        admin.close()
        for host in hosts:
            host.stop()
        cloud.stop()


def network_of(admin: Any, name: str) -> str:
    return str(admin.network.find_network(name).id)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_operation_survives_a_kill_on_both_sides_of_every_commit(
    kind: str, tmp_path: Path, cluster: Postgresql
) -> None:
    database = cluster("crash") if kind == "postgresql" else None
    with site(tmp_path, database, mortal=True) as (cloud, subnet_id):
        client = Client(cloud)
        cloud.token()
        instants = dict.fromkeys((one.__name__ for one in OPERATIONS), 0)
        undisturbed: dict[str, int] = {}
        open_ = set(instants)
        for instant in range(MOST_INSTANTS):
            for operation in OPERATIONS:
                name = operation.__name__
                armed = f"{name}-{instant} {instant if name in open_ else 0}"
                cloud.death.write_text(armed)
                operation(client, subnet_id)
                wait_for(client.settled)
                if died_of(cloud).startswith(armed):
                    instants[name] = instant
                elif instant:
                    open_.discard(name)
            cloud.death.write_text(f"none-{instant} 0")
            undisturbed = undisturbed or rows(cloud)
            wait_for(lambda wanted=undisturbed: rows(cloud) == wanted)  # type: ignore[misc]
            if not open_:
                break
        print(f"\n{kind}: instants {instants}")
        assert not open_
        assert min(instants.values()) >= 2


def died_of(cloud: Cloud) -> str:
    """What the cloud was told when it died last."""
    with contextlib.suppress(FileNotFoundError):
        return cloud.death.with_suffix(".died").read_text()
    return ""


def test_a_database_that_is_killed_under_writes_loses_nothing_that_was_answered(
    tmp_path: Path, cluster: Postgresql
) -> None:
    with site(tmp_path, cluster("killed"), mortal=False) as (cloud, _):
        client = Client(cloud)
        cloud.token()
        answers: list[tuple[str, int]] = []
        stop = threading.Event()

        def write(worker: int) -> None:
            for number in itertools.count():
                if stop.is_set():
                    return
                name = f"w{worker}-{number}"
                answers.append((name, client.ask("POST", f"{NETWORK}/networks", {"network": {"name": name}})[0]))

        def answered(status: int) -> int:
            return sum(one == status for _, one in answers)

        threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                before, refused = answered(201), answered(503)
                wait_for(lambda before=before: answered(201) > before + 10)  # type: ignore[misc]
                cluster.stop()
                wait_for(lambda refused=refused: answered(503) > refused)  # type: ignore[misc]
                cluster.start()
            before = answered(201)
            wait_for(lambda: answered(201) > before + 10)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert {status for _, status in answers} == {201, 503}
        there = Counter(one["name"] for one in client.listed(f"{NETWORK}/networks", "networks"))
        assert {name for name, status in answers if status == 201} <= there.keys()
        assert set(there.values()) == {1}
