"""One cluster, one set of pods and one controller for all tests of the Ingress controller."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.kubernetes import Cluster, own_cluster
from tests.system.ingress.site import CLASS, Echoes, Site, endpoint, service


@pytest.fixture(scope="package")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with own_cluster(tmp_path_factory.mktemp("ingress")) as (cluster, _):
        yield cluster


@pytest.fixture(scope="package")
def echoes() -> Iterator[Echoes]:
    made = Echoes()
    yield made
    made.stop()


@pytest.fixture(scope="package")
def site(kubernetes: Cluster, echoes: Echoes) -> Iterator[Site]:
    """One controller with two Services: `web` (pod `one`) and `shop` (pod `two`)."""
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        made = Site(kubernetes, Path(folder), "--lease", "default/vrata-ingress")
        front = service("front")
        front["spec"]["type"] = "LoadBalancer"
        made.apply(
            CLASS,
            front,
            service("web"),
            endpoint("web", "one", echoes.port("one")),
            service("shop"),
            endpoint("shop", "two", echoes.port("two")),
            service("empty"),
        )
        try:
            made.start()
            yield made
        finally:
            made.stop()


@pytest.fixture(autouse=True)
def nobodys_hosts(kubernetes: Cluster) -> Iterator[None]:
    """Each test's Ingresses go with it: an older one would keep its hosts from the next."""
    yield
    kubernetes.kubectl("delete", "ingress", "--all")


@pytest.fixture
def no_reload(site: Site) -> Iterator[None]:
    """What a test does reloads nothing."""
    before = site.reloads()
    yield
    assert site.reloads() == before
