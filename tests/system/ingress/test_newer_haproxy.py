"""The Ingress controller with HAProxy 3.4: new Services get backends that are added live, and nothing reloads."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from tests.support.haproxy import ADDS_BACKENDS
from tests.support.kubernetes import Cluster, wait_for
from tests.support.ports import free_port
from tests.system.ingress.site import Echoes, Json, Site, endpoint, ingress, reachable, service

OPERATIONS = free_port()


@pytest.fixture(scope="module")
def newer(kubernetes: Cluster, site: Site) -> Iterator[Site]:
    assert site.process  # it has made `web` and `shop`
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        options = ("--tcp-services-configmap", "default/newer", "--operations-port", str(OPERATIONS))
        made = Site(kubernetes, Path(folder), "--spare-backends", "8", *options, haproxy=ADDS_BACKENDS)
        try:
            made.start()
            assert made.adds_places()
            made.apply(ingress("newer", ("newer.example", "Prefix", "/", "web")))
            made.until("newer.example", "/", "one")
            yield made
        finally:
            made.stop()


def served(names: Iterable[str], port: int, annotations: dict[str, str] | None = None) -> list[Json]:
    """Services, each with a pod on that port and a host of its own."""
    return [
        one
        for name in names
        for one in (
            service(name),
            endpoint(name, "pod", port),
            ingress(name, (f"{name}.example", "Prefix", "/", name), annotations=annotations),
        )
    ]


def hundred(name: str, port: int) -> list[Json]:
    """A Service with as many ports, all of one pod, and a host for each."""
    numbers = range(100)
    pods, paths = endpoint(name, "pod", port), [(f"{name}-{number}.example", "Prefix", "/", name) for number in numbers]
    pods["ports"] = [pods["ports"][0] | {"name": f"port-{number}"} for number in numbers]
    made, routes = service(name), ingress(name, *paths)
    made["spec"]["ports"] = [{"name": f"port-{number}", "port": 1000 + number} for number in numbers]
    for number, rule in enumerate(routes["spec"]["rules"]):
        rule["http"]["paths"][0]["backend"]["service"]["port"] = {"number": 1000 + number}
    return [made, pods, routes]


def reloads(site: Site) -> str:
    """As the controller's metric says, by reason."""
    lines = site.ask("", "/metrics", port=OPERATIONS)[1].splitlines()
    return "; ".join(line for line in lines if line.startswith("vrata_haproxy_reloads_total"))


def backends(site: Site) -> set[str]:
    """All places that HAProxy has."""
    return {line for line in site.answer("show backend").splitlines() if line[1:2] == "-"}


def test_more_new_services_than_were_prepared_are_served_without_a_reload(newer: Site, echoes: Echoes) -> None:
    names, hashed = [f"live-{number}" for number in range(20)], [f"hashed-{number}" for number in range(5)]
    worker, before = newer.worker(), reloads(newer)
    with newer.load("newer.example") as seen:
        newer.apply(*served(names, echoes.port("four")))
        newer.apply(*served(hashed, echoes.port("four"), {"upstream-hash-by": "$request_uri"}))
        newer.apply(*served(["kept"], echoes.port("four"), {"affinity": "cookie"}))
        for name in (*names, *hashed, "kept"):
            newer.until(f"{name}.example", "/", "four")
    assert seen.good > 20
    assert not seen.bad
    assert (newer.worker(), reloads(newer)) == (worker, before)
    kinds = {service.partition(":")[0]: place[0] for place, service in newer.places().items()}
    for kind, found in {"b": names, "h": hashed, "c": ["kept"]}.items():
        assert {kinds[f"default/{name}"] for name in found} == {kind}


def test_a_hundred_backends_come_and_go_and_the_next_ones_take_their_places(newer: Site, echoes: Echoes) -> None:
    worker, owned = newer.worker(), newer.places()
    known: set[str] = set()
    for turn in ("first", "second"):
        newer.apply(*hundred(turn, echoes.port("four")))
        for number in range(100):
            newer.until(f"{turn}-{number}.example", "/", "four")
        known = known or backends(newer)
        newer.cluster.kubectl("delete", f"ingress/{turn}", f"service/{turn}", f"endpointslice/{turn}-pod")
        wait_for(lambda: newer.places() == owned, "their places are free again")
    assert len(known) > 100
    assert backends(newer) == known
    assert newer.worker() == worker


def test_a_restarted_controller_finds_what_was_added_live(newer: Site, echoes: Echoes) -> None:
    newer.apply(*served(["found"], echoes.port("four")))
    newer.until("found.example", "/", "four")
    master, worker, owned = newer.haproxy(), newer.worker(), newer.places()
    assert newer.process
    with newer.load("found.example") as seen:
        newer.process.kill()
        newer.process.wait()
        # As one leaves it that dies before it has given the place away.
        left = "b-009000"
        assert "published" in newer.answer(f"add backend {left} from b;publish backend {left}")
        newer.start()
        for turn in ("third", "fourth"):
            newer.apply(*hundred(turn, echoes.port("four")))
            newer.until(f"{turn}-99.example", "/", "four")
    assert seen.good > 20
    assert not seen.bad
    assert (newer.haproxy(), newer.worker()) == (master, worker)
    assert owned.items() <= newer.places().items()
    assert {left, "b-009001"} <= newer.places().keys()


def test_a_reload_keeps_what_was_added_live(newer: Site, echoes: Echoes) -> None:
    newer.apply(*served(["stays"], echoes.port("four")))
    newer.until("stays.example", "/", "four")
    wait_for(lambda: set(newer.places().values()) == {"default/stays:80"}, "what others used is free again")
    worker, owned = newer.worker(), newer.places()
    port = free_port()
    with newer.load("stays.example") as seen:
        data = {str(port): "default/web:80"}
        newer.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "newer"}, "data": data})
        wait_for(
            lambda: reachable(port) and newer.pod("", "/", port=port) == "one", "a new port is a reload, and answers"
        )
    assert seen.good > 20
    assert not seen.bad
    assert newer.worker() != worker
    assert owned.items() <= newer.places().items(), "all that serve have their places"
    unused = backends(newer) - newer.places().keys()
    assert {place[0] for place in unused} == {"c"}, "others are added when they are needed"
    newer.apply(*served(["later"], echoes.port("four")))
    newer.until("later.example", "/", "four")
