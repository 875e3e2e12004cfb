"""The same Ingresses and requests for Vrata and Traefik: the same pod wherever the documentation decides.

Where it does not, or where Traefik is known to differ, the request is left out: see `left_out`.
"""

import base64
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.kubernetes import Cluster, wait_for
from tests.support.ports import free_port
from tests.system.ingress.site import Echoes, Json, Site, endpoint, reachable, service

from vrata.ingress.model import RowKey
from vrata.ingress.rows import END, exact_row, find_rows, host_of, prefix_row

HOSTS = ["a.differ.example", "b.differ.example", "*.differ.example", ""]
PATHS = ["/", "/foo", "/foo/", "/foo/bar", "/foobar"]
ASKED_HOSTS = ["a.differ.example", "b.differ.example", "c.differ.example", "elsewhere.example"]
ASKED_PATHS = ["/", "/foo", "/foo/", "/foo/bar", "/foo/bar/baz", "/foobar", "/foo?x=/bar", "/other"]
PODS = ["red", "green", "blue"]
_numbers = count()

Rule = tuple[str, str, str]  # host, pathType, path


@pytest.fixture(scope="module")
def traefik(kubernetes: Cluster) -> Iterator[int]:
    """Traefik with the same API server; its port."""
    found = yaml.safe_load(kubernetes.kubeconfig.read_text())
    cluster, user = found["clusters"][0]["cluster"], found["users"][0]["user"]
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        authority, token, port = Path(folder) / "ca.pem", Path(folder) / "token", free_port()
        authority.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
        token.write_text(user["token"])
        provider = "--providers.kubernetesingress"
        argv = [str(Path(sys.executable).with_name("traefik")), f"--entrypoints.web.address=127.0.0.1:{port}"]
        argv += [f"{provider}=true", f"{provider}.endpoint={cluster['server']}", f"{provider}.token={token}"]
        argv += [f"{provider}.certauthfilepath={authority}", f"{provider}.ingressclass=vrata"]
        argv += [f"{provider}.strictprefixmatching=true", "--providers.providersthrottleduration=20ms"]
        argv += ["--global.checknewversion=false", "--log.level=ERROR"]
        process = subprocess.Popen(argv, cwd=folder)
        try:
            wait_for(lambda: reachable(port), "Traefik listens")
            yield port
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module", autouse=True)
def pods(site: Site, echoes: Echoes) -> Iterator[None]:
    for pod in PODS:
        site.apply(service(pod), endpoint(pod, pod, echoes.port(pod)))
    yield
    site.cluster.kubectl("delete", "ingress", "-l", "test=differ")


def ingresses(rules: dict[Rule, str], marker: str) -> Iterator[Json]:
    """One for each rule, so that precedence goes across Ingresses; and one by which all is known to be taken in."""
    for number, ((host, kind, path), pod) in enumerate([*rules.items(), ((marker, "Prefix", "/"), PODS[0])]):
        backend = {"service": {"name": pod, "port": {"number": 80}}}
        rule: Json = {"http": {"paths": [{"pathType": kind, "path": path, "backend": backend}]}}
        metadata = {
            "name": f"differ-{number}",
            "labels": {"test": "differ"},
            # By annotation: Traefik takes ingressClassName for classes of its own controller only.
            "annotations": {"kubernetes.io/ingress.class": "vrata"},
        }
        spec = {"rules": [rule | ({"host": host} if host else {})]}
        yield {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec}


def taken_in(site: Site, marker: str, port: int) -> bool:
    return site.pod(marker, port=port) == PODS[0]


def row_of(rule: Rule) -> RowKey:
    host, kind, path = rule
    return (exact_row if kind == "Exact" else prefix_row)(host or "*", path)


def left_out(rows: set[RowKey], host: str, path: str) -> str:
    """Why a request is not compared; empty if it is."""
    found = find_rows(rows, host, path.partition("?")[0])
    if len({host_of(row) for row in found}) > 1:
        return "rules of several hosts match, which the documentation gives no order"
    if len(found) > 1 and found[0].endswith(END):
        return (
            "Traefik takes the longer rule as it writes them, and its word for a Prefix is longer than that for Exact"
        )
    return ""


rule = st.tuples(st.sampled_from(HOSTS), st.sampled_from(["Exact", "Prefix"]), st.sampled_from(PATHS))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rules=st.dictionaries(rule, st.sampled_from(PODS), min_size=1, max_size=8))
def test_both_choose_the_same_pod(site: Site, traefik: int, rules: dict[Rule, str]) -> None:
    unique = {row_of(one): (one, pod) for one, pod in rules.items()}  # `/foo` and `/foo/` are one prefix
    rules = dict(unique.values())
    marker = f"marker-{next(_numbers)}.example"
    site.cluster.kubectl("delete", "ingress", "-l", "test=differ")
    site.apply(*ingresses(rules, marker))
    for port in (site.http, traefik):
        wait_for(partial(taken_in, site, marker, port), "the Ingresses are taken in")
    for host in ASKED_HOSTS:
        for path in ASKED_PATHS:
            if not left_out(set(unique), host, path):
                wait_for(partial(alike, site, traefik, host, path), f"both choose one pod for {host}{path} of {rules}")


def alike(site: Site, traefik: int, host: str, path: str) -> bool:
    """Hosts of one change come one after the other, within milliseconds."""
    return site.pod(host, path) == site.pod(host, path, port=traefik)
