"""Three replicas of the cloud on one PostgreSQL database: any of them answers, and the state machine stays whole."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any

import pytest
import sqlalchemy as sa
from tests.support.cloud import Cloud, FakeHost, wait_for

from vrata.cloud.store import Store, Tx

V2 = "/load-balancer/v2.0/lbaas"
WRITERS = 100


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[str], str]) -> Iterator[list[Cloud]]:
    url = new_database("replicas")
    running: list[Cloud] = []
    try:
        for number in range(3):
            directory = tmp_path_factory.mktemp(f"replica{number}")
            if running:  # all of them open what any of them sealed
                (directory / "keys").write_text((running[0].directory / "keys").read_text())
            running.append(Cloud(directory, url))
            running[-1].start()
        yield running
    finally:
        codes = [one.stop() for one in running]
    assert codes == [0, 0, 0]


@pytest.fixture(scope="module")
def balancer(replicas: list[Cloud]) -> Iterator[str]:
    """A load balancer on two hosts, each of which speaks to another replica."""
    hosts = [FakeHost(cloud, name).start() for cloud, name in zip(replicas, ("host-a", "host-b"), strict=False)]
    admin = replicas[0].connect("admin")
    tenant = admin.network.create_network(name="tenant", is_shared=True, provider_physical_network="tenant",
                                          provider_network_type="flat")  # fmt: skip
    subnet = admin.network.create_subnet(network_id=tenant.id, ip_version=4, cidr="10.10.0.0/24", name="tenant")
    status, body, _ = ask(replicas[2], "POST", "/loadbalancers", {"loadbalancer": {"vip_subnet_id": subnet.id}})
    assert status == 201, body
    wait_for(lambda: state(replicas[1], body["loadbalancer"]["id"]) == "ACTIVE")
    yield body["loadbalancer"]["id"]
    admin.close()
    for host in hosts:
        host.stop()


def ask(cloud: Cloud, method: str, path: str, body: Any = None) -> tuple[int, Any, dict[str, str]]:
    return cloud.request(method, V2 + path, body, {"X-Auth-Token": cloud.token()}, timeout_s=60.0)


def state(cloud: Cloud, balancer_id: str) -> str:
    return str(ask(cloud, "GET", f"/loadbalancers/{balancer_id}")[1]["loadbalancer"]["provisioning_status"])


def test_a_token_of_one_replica_is_good_at_every_other(replicas: list[Cloud], balancer: str) -> None:
    token = replicas[0].token()
    for one in replicas:
        assert one.request("GET", f"{V2}/loadbalancers/{balancer}", None, {"X-Auth-Token": token})[0] == 200


def test_of_a_hundred_simultaneous_writers_exactly_the_legal_ones_win(replicas: list[Cloud], balancer: str) -> None:
    """Whoever is answered 201 or 200 has changed the tree; everybody else is told 409 and has changed nothing."""
    for one in replicas:
        one.token()
    clouds = cycle(replicas)
    work = [(next(clouds), number) for number in range(WRITERS)]

    def write(job: tuple[Cloud, int]) -> tuple[int, int, Any]:
        cloud, number = job
        listener = {
            "loadbalancer_id": balancer,
            "protocol": "TCP",
            "protocol_port": 1000 + number,
            "name": f"w{number}",
        }
        status, body, _ = ask(cloud, "POST", "/listeners", {"listener": listener})
        return number, status, body

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(write, work))
    counts = Counter(status for _, status, _ in answers)
    assert counts.keys() <= {201, 409}, answers
    assert counts[201] >= 1
    refused = [body["faultstring"] for _, status, body in answers if status == 409]
    assert set(refused) <= {f"Load Balancer {balancer} is immutable and cannot be updated."}
    wait_for(lambda: all(state(one, balancer) == "ACTIVE" for one in replicas))
    there = {one["name"] for one in ask(replicas[0], "GET", f"/listeners?loadbalancer_id={balancer}")[1]["listeners"]}
    assert there == {f"w{number}" for number, status, _ in answers if status == 201}


def test_a_killed_replica_loses_nothing_that_was_answered(replicas: list[Cloud], balancer: str) -> None:
    _ = balancer
    pool = {"pool": {"loadbalancer_id": balancer, "protocol": "TCP", "lb_algorithm": "ROUND_ROBIN", "name": "kept"}}
    status, body, _ = ask(replicas[2], "POST", "/pools", pool)
    assert status == 201, body
    replicas[2].kill()
    wait_for(lambda: state(replicas[0], balancer) == "ACTIVE")
    assert ask(replicas[1], "GET", f"/pools/{body['pool']['id']}")[1]["pool"]["name"] == "kept"
    replicas[2].start()
    assert state(replicas[2], balancer) == "ACTIVE"


def test_a_refused_call_changes_nothing_and_keeps_what_its_connection_has_prepared(
    new_database: Callable[[str], str],
) -> None:
    store = Store(new_database("refused"))
    rows, prepared = sa.table("rows", sa.column("number")), sa.table("pg_prepared_statements")
    count = sa.select(sa.func.count())

    def refuse(tx: Tx) -> None:
        tx.connection.execute(sa.insert(rows).values(number=1))
        raise ConnectionRefusedError

    try:
        store.write_now(lambda tx: tx.connection.exec_driver_sql("CREATE TABLE rows (number integer)"))
        for _ in range(8):  # psycopg prepares what has been asked five times
            store.write_now(lambda tx: tx.value(count.select_from(rows)))
        with pytest.raises(ConnectionRefusedError):
            store.write_now(refuse)
        assert store.write_now(lambda tx: tx.value(count.select_from(prepared))) == 1
        assert store.write_now(lambda tx: tx.value(count.select_from(rows))) == 0
    finally:
        store.close()
