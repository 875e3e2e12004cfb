"""The Ingress controller with a real HAProxy: routes, endpoints, reloads, crashes, the way out."""

import contextlib
import http.client
import os
import shlex
import signal
import socket
import subprocess
import tempfile
import threading
from functools import partial
from pathlib import Path

import pytest
from tests.support.kubernetes import Cluster, wait_for
from tests.support.ports import free_port
from tests.system.ingress.site import PUBLISHED, Echoes, Json, Site, endpoint, ingress, service

from vrata.haproxy.runtime import parse_statistics


def test_exact_wins_over_prefix_and_the_longer_prefix_over_the_shorter(site: Site) -> None:
    site.apply(
        ingress(
            "paths",
            ("paths.example", "Prefix", "/", "web"),
            ("paths.example", "Prefix", "/shop", "shop"),
            ("paths.example", "Exact", "/shop/exact", "web"),
        )
    )
    site.until("paths.example", "/", "one")  # a new host's rows come one by one, the longest path first
    for path, pod in {
        "/": "one",
        "/other": "one",
        "/shop/": "two",
        "/shop/deep?x=/": "two",
        "/shopping": "one",
        "/shop/exact": "one",
        "/shop/exact/": "two",
    }.items():
        assert site.pod("paths.example", path) == pod, path
    for host in ("PATHS.example:8080", "paths.example.", "paths.example.:8080"):
        assert site.pod(host, "/shop") == "two", host


def test_a_wildcard_serves_one_label_and_yields_to_the_full_name(site: Site) -> None:
    site.apply(
        ingress("wild", ("*.wild.example", "Prefix", "/", "web"), ("full.wild.example", "Prefix", "/", "shop")),
    )
    site.until("full.wild.example", "/", "two")
    site.until("any.wild.example", "/", "one")
    assert site.pod("two.labels.wild.example") == "404"
    assert site.pod("wild.example") == "404"


def test_nobodys_names_are_404_until_there_is_a_default_and_again_without_it(site: Site) -> None:
    status, body = site.ask("nobody.example", "/")
    assert (status, body) == (404, "no Ingress serves this host and path\n")
    site.apply(ingress("default", ("named.example", "Exact", "/", "web"), default="shop"))
    site.until("nobody.example", "/", "two")
    assert site.pod("named.example", "/") == "one"
    assert site.pod("named.example", "/elsewhere") == "two"
    site.cluster.kubectl("delete", "ingress", "default")
    site.until("nobody.example", "/", "404")


def test_a_service_without_endpoints_is_503_and_a_missing_one_is_told(site: Site) -> None:
    site.apply(
        ingress("empty", ("empty.example", "Prefix", "/", "empty"), ("missing.example", "Prefix", "/", "missing"))
    )
    site.until("empty.example", "/", "503")
    site.until("missing.example", "/", "503")  # the next row of the same change
    query = ("get", "events", "-o", "jsonpath={.items[*].message}")
    told = "no Service 'default/missing'; create it, then it is served"
    wait_for(lambda: told in site.cluster.kubectl(*query), "an event says what to do")


def test_an_ingress_carries_the_address_of_the_service_in_front(site: Site) -> None:
    site.apply(ingress("status", ("status.example", "Prefix", "/", "web")))
    patch = f'{{"status":{{"loadBalancer":{{"ingress":[{{"ip":"{PUBLISHED}"}}]}}}}}}'
    site.cluster.kubectl("patch", "service", "front", "--subresource=status", "--type=merge", "-p", patch)
    query = ("get", "ingress", "status", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")
    wait_for(lambda: site.cluster.kubectl(*query) == PUBLISHED, "the Ingress has the address")


def test_an_ingress_whose_class_changed_while_nobody_ran_loses_the_address(site: Site) -> None:
    test_an_ingress_carries_the_address_of_the_service_in_front(site)
    site.stop()
    site.cluster.kubectl("patch", "ingress", "status", "--type=merge", "-p", '{"spec":{"ingressClassName":"other"}}')
    site.start()
    query = ("get", "ingress", "status", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")
    wait_for(lambda: site.cluster.kubectl(*query) == "", "it has no address")


def test_endpoints_and_routes_come_and_go_without_a_reload(site: Site, echoes: Echoes) -> None:
    site.apply(ingress("live", ("live.example", "Prefix", "/", "web")))
    site.until("live.example", "/", "one")
    worker, reloads = site.worker(), site.reloads()
    with site.load("live.example") as seen:
        site.apply(endpoint("web", "three", echoes.port("three")))
        site.until("live.example", "/", "three")
        site.apply(endpoint("web", "one", echoes.port("one"), ready=False))
        wait_for(lambda: {site.pod("live.example") for _ in range(10)} == {"three"}, "only the new pod answers")
        site.apply(endpoint("web", "one", echoes.port("one")))
        site.cluster.kubectl("delete", "endpointslice", "web-three")
        wait_for(lambda: {site.pod("live.example") for _ in range(10)} == {"one"}, "only the old pod answers")
        site.apply(ingress("live", ("live.example", "Prefix", "/", "web"), ("more.example", "Prefix", "/x", "shop")))
        site.until("more.example", "/x", "two")
    assert seen.good > 20
    assert not seen.bad
    assert (site.worker(), site.reloads()) == (worker, reloads)


def test_a_pod_that_was_added_live_gets_all_requests_on_few_connections(site: Site, echoes: Echoes) -> None:
    site.apply(service("kept"), endpoint("kept", "three", echoes.port("three")))
    site.apply(ingress("kept", ("kept.example", "Prefix", "/", "kept")))
    site.until("kept.example", "/", "three")
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", site.http, timeout=60)) as client:
        for _ in range(50):
            client.request("GET", "/", headers={"Host": "kept.example"})
            assert client.getresponse().read()
    (pod,) = parse_statistics(site.answer(f"show stat {site.owner_of('default/kept:80')} 4 -1"))
    assert int(pod["reuse"]) > 5 * int(pod["connect"])


def test_a_pod_that_swallows_connections_costs_no_request(site: Site) -> None:
    """As a pod whose network is gone before its endpoint is: nothing refuses the connection, nothing accepts it."""
    site.apply(ingress("silent", ("silent.example", "Prefix", "/", "web")))
    site.until("silent.example", "/", "one")
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent, socket.socket() as fills_the_queue:
        fills_the_queue.connect(silent.getsockname())
        site.apply(endpoint("web", "silent", silent.getsockname()[1]))
        wait_for(lambda: "web-silent" in site.cluster.kubectl("get", "endpointslices"), "the endpoint is known")
        assert {site.pod("silent.example") for _ in range(8)} == {"one"}
        site.cluster.kubectl("delete", "endpointslice", "web-silent")


def test_new_backends_come_and_go_without_a_reload(site: Site, echoes: Echoes) -> None:
    site.apply(ingress("steady", ("steady.example", "Prefix", "/", "web")))
    site.until("steady.example", "/", "one")
    worker, reloads = site.worker(), site.reloads()
    with site.load("steady.example") as seen:
        site.apply(
            service("fresh"),
            endpoint("fresh", "four", echoes.port("four")),
            ingress("fresh", ("fresh.example", "Prefix", "/", "fresh")),
        )
        site.until("fresh.example", "/", "four")
        slot = site.owner_of("default/fresh:80")
        site.cluster.kubectl("delete", "ingress/fresh", "service/fresh", "endpointslice/fresh-four")
        site.until("fresh.example", "/", "404")
        wait_for(lambda: site.owner(slot) == "", "its place is free again")
    assert seen.good > 20
    assert not seen.bad
    assert (site.worker(), site.reloads()) == (worker, reloads)


def test_more_backends_than_were_prepared_are_one_reload_that_nobody_notices(
    kubernetes: Cluster, site: Site, echoes: Echoes
) -> None:
    """The second Service and those after it, for one that has prepared a single place."""
    site.apply(ingress("few", ("few.example", "Prefix", "/", "web")))
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        small = Site(kubernetes, Path(folder), "--spare-backends", "1")
        try:
            small.start()
            small.until("few.example", "/", "one")
            if small.adds_places():
                pytest.skip("this HAProxy adds backends: test_newer_haproxy.py")
            master, worker, reloads = small.haproxy(), small.worker(), small.reloads()
            with small.load("few.example") as seen:
                objects = [
                    one
                    for name in ("new-1", "new-2", "new-3")
                    for one in (
                        service(name),
                        endpoint(name, "four", echoes.port("four")),
                        ingress(name, (f"{name}.example", "Prefix", "/", name)),
                    )
                ]
                small.apply(*objects)
                for name in ("new-1", "new-2", "new-3"):
                    small.until(f"{name}.example", "/", "four")
            assert seen.good > 20
            assert not seen.bad
            assert small.haproxy() == master
            assert small.worker() != worker
            assert reloads < small.reloads() <= reloads + 3
        finally:
            small.stop()


def test_reloads_places_and_their_services_are_counted(kubernetes: Cluster, site: Site) -> None:
    site.apply(ingress("counted", ("counted.example", "Prefix", "/", "web")))
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        told = Site(kubernetes, Path(folder), "--operations-port", str(port))
        try:
            told.start()
            wait_for(lambda: told.ask("", "/readyz", port=port)[0] == 200, "it is ready")
            figures = told.ask("", "/metrics", port=port)[1]
            assert 'vrata_haproxy_reloads_total{reason="start"} 1.0' in figures
            assert 'service="default/web"' in figures
            place = told.owner_of("default/web:80")
            assert f'proxy="{place}"' in figures
            assert f'proxy="{place}"' in told.ask("", "/metrics", port=told.health)[1], (
                "HAProxy's own, by the same name"
            )
        finally:
            told.stop()


def test_a_killed_controller_is_missed_by_nobody_and_adopts_what_serves(site: Site, echoes: Echoes) -> None:
    site.apply(ingress("kill", ("kill.example", "Prefix", "/", "web")))
    site.until("kill.example", "/", "one")
    master, worker = site.haproxy(), site.worker()
    assert site.process
    with site.load("kill.example") as seen:
        site.process.kill()
        site.process.wait()
        site.apply(endpoint("web", "five", echoes.port("five")))
        site.start()
        site.until("kill.example", "/", "five")
    assert seen.good > 20
    assert not seen.bad
    assert (site.haproxy(), site.worker()) == (master, worker)
    site.cluster.kubectl("delete", "endpointslice", "web-five")


def has_reloaded(site: Site, times: int) -> bool:
    return site.log.read_text().count('reason="other settings"') >= times


def test_other_settings_count_when_the_controller_starts_again(kubernetes: Cluster, site: Site) -> None:
    site.apply(ingress("set", ("set.example", "Prefix", "/", "web")))
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        changed = Site(kubernetes, Path(folder))
        try:
            changed.start()
            changed.until("set.example", "/", "one")
            with changed.load("set.example") as seen:
                for reloads, options in enumerate((("--no-proxy-protocol", "--host-metrics", "5"), changed.options), 1):
                    changed.options = options
                    assert changed.process
                    changed.process.kill()
                    changed.process.wait()
                    changed.start()
                    wait_for(partial(has_reloaded, changed, reloads), "its HAProxy has the settings")
            assert seen.good > 20
            assert not seen.bad
        finally:
            changed.stop()


def test_a_killed_haproxy_comes_back_with_every_route(site: Site) -> None:
    site.apply(ingress("back", ("back.example", "Prefix", "/", "web")))
    site.until("back.example", "/", "one")
    for _ in range(2):
        master = site.haproxy()
        assert master
        os.kill(master.pid, signal.SIGKILL)
        wait_for(lambda master=master: site.haproxy() not in {None, master}, "HAProxy runs again")  # type: ignore[misc]
        wait_for((site.directory / "made-by").exists, "it is watched")
    wait_for(site.is_healthy, "it answers")
    site.until("back.example", "/", "one")
    lines = [line for line in site.log.read_text().splitlines() if 'event="haproxy ended"' in line]
    ends = [dict(word.split("=", 1) for word in shlex.split(line)) for line in lines]
    assert [end["again_in_s"] for end in ends] == ["0.0", "0.5"]
    assert ends[1]["status"] == "signal 9 (Killed)"  # of the first one another controller may be the parent


def test_the_proxy_protocol_brings_the_clients_address_and_sigterm_drains(kubernetes: Cluster, site: Site) -> None:
    site.apply(ingress("proxied", ("proxied.example", "Prefix", "/", "web")))
    site.until("proxied.example", "/", "one")
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        proxied = Site(kubernetes, Path(folder), "--proxy-protocol")
        try:
            proxied.start()
            wait_for(
                lambda: b'"198.51.100.7"' in _through_proxy(proxied.http, "/"), "the pod sees the client's address"
            )
            with pytest.raises(ConnectionError):
                assert not proxied.ask("proxied.example", "/"), "a connection without the header is closed"
            _ends_after_its_last_request(proxied)
        finally:
            proxied.stop()


def test_only_who_is_trusted_says_the_clients_address(kubernetes: Cluster, site: Site) -> None:
    """Others come without the PROXY protocol; what they say by it is no HTTP."""
    site.apply(ingress("proxied", ("proxied.example", "Prefix", "/", "web")))
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        words = ("--proxy-protocol", "--proxy-protocol-from", "127.0.0.2", "--proxy-protocol-from", "127.1.0.0/16")
        trusting = Site(kubernetes, Path(folder), *words)
        try:
            trusting.start()
            trusting.until("proxied.example", "/", "one")
            for source in ("127.0.0.2", "127.1.2.3"):
                assert b'"198.51.100.7"' in _through_proxy(trusting.http, "/", source), source
            assert _through_proxy(trusting.http, "/", "127.0.0.1").startswith(b"HTTP/1.1 400")
            assert trusting.ask("proxied.example", "/")[1]["headers"]["X-Forwarded-For"] == ["127.0.0.1"]
        finally:
            trusting.stop()


def test_only_named_networks_say_for_whom_they_ask(kubernetes: Cluster, site: Site) -> None:
    """Of several addresses the last one counts, which they have added; on one connection each request has its own."""
    words = {"nginx.ingress.kubernetes.io/denylist-source-range": "198.51.100.7"}
    guarded = ingress("proxied", ("proxied.example", "Prefix", "/", "web"))
    guarded["metadata"]["annotations"] |= words
    site.apply(guarded)
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        believing = Site(kubernetes, Path(folder), "--forwarded-from", "127.0.0.2/32")
        try:
            believing.start()
            believing.until("proxied.example", "/", "one")
            for source, expected in (("127.0.0.2", [403, 200, 200]), ("127.0.0.1", [200, 200, 200])):
                connection = http.client.HTTPConnection("127.0.0.1", believing.http, source_address=(source, 0))
                found, told = [], set()
                for said in ("203.0.113.9, 198.51.100.7", "198.51.100.7, 203.0.113.9", ""):
                    headers = {"Host": "proxied.example", "True-Client-IP": "198.51.100.8"}
                    headers |= {"X-Forwarded-For": said} if said else {}
                    connection.request("GET", "/", headers=headers)
                    answer = connection.getresponse()
                    told.add(b"198.51.100.8" in answer.read())
                    found.append(answer.status)
                connection.close()
                assert found == expected, source
                assert (True in told) == (source == "127.0.0.2"), "only they say it in a header of their own"
        finally:
            believing.stop()


def _through_proxy(port: int, path: str, source: str = "127.0.0.1") -> bytes:
    answer = b""
    with socket.create_connection(("127.0.0.1", port), 5, source_address=(source, 0)) as connection:
        connection.sendall(b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 80\r\n")
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: proxied.example\r\nConnection: close\r\n\r\n".encode())
        while data := connection.recv(65536):
            answer += data
    return answer


def _ends_after_its_last_request(site: Site) -> None:
    answers: list[bytes] = []
    slow = threading.Thread(target=lambda: answers.append(_through_proxy(site.http, "/delay/1500")))
    slow.start()
    wait_for(lambda: _busy(site), "the slow request is under way")
    assert site.process
    site.process.terminate()
    assert site.process.wait(90) == 0
    slow.join()
    assert answers[0].startswith(b"HTTP/1.1 200")
    assert site.haproxy() is None
    assert not site.directory.exists()


def _busy(site: Site) -> bool:
    """Whether a request waits for a pod right now."""
    with socket.socket(socket.AF_UNIX) as stats:
        stats.connect(str(site.directory / "stats.sock"))
        stats.sendall(b"show sess\n")
        stats.shutdown(socket.SHUT_WR)
        return b"srv=s-" in stats.makefile("rb").read()


def test_a_service_may_stand_for_a_name_outside(site: Site, echoes: Echoes) -> None:
    outside = "192.0.2.78"
    subprocess.run(["ip", "address", "add", f"{outside}/32", "dev", "lo"], check=True)
    try:
        port = echoes.port("outside")

        def named(name: str) -> Json:
            spec = {"type": "ExternalName", "externalName": name, "ports": [{"name": "http", "port": port}]}
            return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "elsewhere"}, "spec": spec}

        path = ingress("elsewhere", ("elsewhere.example", "Prefix", "/", "elsewhere"))
        path["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"] = {"name": "http"}
        before = site.worker()
        site.apply(named("localhost"), path)
        wait_for(lambda: "'localhost' has no address outside this machine" in site.events(), "an event says so")
        assert site.pod("elsewhere.example") == "503"
        site.apply(named(outside))
        site.until("elsewhere.example", "/", "outside")
        # The pod of a headless Service of another namespace.
        theirs = endpoint("theirs", "pod", port)
        theirs["metadata"] |= {"namespace": "kube-system"}
        theirs["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = "endpointslice-controller.k8s.io"
        theirs["endpoints"] = [{"addresses": [outside], "targetRef": {"kind": "Pod", "name": "theirs"}}]
        site.apply(theirs)
        site.until("elsewhere.example", "/", "503")
        site.cluster.kubectl("delete", "-n", "kube-system", "endpointslice/theirs-pod")
        site.until("elsewhere.example", "/", "outside")
        assert site.worker() == before
    finally:
        site.cluster.kubectl("delete", "--ignore-not-found", "ingress/elsewhere", "service/elsewhere")
        subprocess.run(["ip", "address", "del", f"{outside}/32", "dev", "lo"], check=True)


def test_what_changes_while_a_pass_looks_is_the_next_ones_work(site: Site, echoes: Echoes) -> None:
    one, two = echoes.port("busy-1"), echoes.port("busy-2")
    before = len(site.log.read_text())
    names = [f"busy-{number}" for number in range(25)]
    site.apply(*(service(name) for name in names))
    site.apply(*(ingress(name, (f"{name}.example", "Prefix", "/", name)) for name in names))
    for port in (one, two) * 5:
        site.apply(*(endpoint(name, "pod", port) for name in names))
    for name in names:
        site.until(f"{name}.example", "/", "busy-2")
    assert "pass failed" not in site.log.read_text()[before:]


def test_a_class_says_what_holds_for_all_of_its_ingresses(site: Site) -> None:
    worker = site.worker()
    parameters = {"kind": "ConfigMap", "name": "strict", "namespace": "default", "scope": "Namespace"}
    strict: Json = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "strict"}}
    strict["spec"] = {"controller": "vrata.dev/ingress-controller", "parameters": parameters}

    def say(**data: str) -> None:
        site.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "strict"}, "data": data})

    path = ingress("strict", ("strict.example", "Prefix", "/", "web"))
    path["spec"]["ingressClassName"] = "strict"
    site.apply(strict, path)
    wait_for(lambda: "class strict has parameters that are not there" in site.events(), "an event says so")
    site.until("strict.example", "/", "one")
    say(**{"denylist-source-range": "127.0.0.0/8"})
    site.until("strict.example", "/", "403")
    say(**{"permanent-redirect": "https://new.example"})
    site.until("strict.example", "/", "301")
    assert "asked        redirect=https://new.example" in site.vrata("explain", "http://strict.example/")
    told = site.vrata("check", "--cluster").partition("Ingress default/strict\n")[2]
    assert told.splitlines()[0].strip().startswith("nginx.ingress.kubernetes.io/permanent-redirect: differently")
    assert site.worker() == worker
