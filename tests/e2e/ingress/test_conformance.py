"""Ingress v1 as documented, with packets from outside through the load balancer (Kubernetes documentation, «Ingress»), and the
scenarios of SIG Network's ingress-controller-conformance: default backend, host rules, class, load balancing, path rules."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tests.support.pki import issue

from vrata.sandbox.demo.manifests import echo_deployment, ingress_controller, service
from vrata.sandbox.demo.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

SERVICES = ("first", "second", "third", "fallback")
PODS = 10
Json = dict[str, Any]


@dataclass(frozen=True)
class Site:
    """The cluster and the one address in front of it."""

    stage: Stage
    address: str

    async def ask(self, host: str, path: str) -> str:
        """The Service that answers a client outside, or the status if none does."""
        status, body = await self.stage.curl("client", f"http://{self.address}{path}", "-H", f"Host: {host}")
        return str(json.loads(body)["service"]) if status == 200 else str(status)

    async def until(self, host: str, path: str, expected: str) -> None:
        """Wait for an answer."""

        async def seen() -> bool:
            return await self.ask(host, path) == expected

        await self.stage.wait(f"{host}{path} is served by {expected}", seen)


def backend(target: str) -> Json:
    return {"service": {"name": target, "port": {"name": "http"}}}


def rule(host: str, *paths: tuple[str, str, str]) -> Json:
    """Paths are (pathType, path, Service)."""
    entries = [{"pathType": kind, "path": path, "backend": backend(target)} for kind, path, target in paths]
    return ({"host": host} if host else {}) | {"http": {"paths": entries}}


def ingress(name: str, *rules: Json, class_name: str | None = "vrata", **spec: object) -> Json:
    body = {"rules": list(rules), **({"ingressClassName": class_name} if class_name else {}), **spec}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name}, "spec": body}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(stage: Stage) -> Site:
    await stage.apply(ingress_controller())
    await stage.apply(*(echo_deployment(name, replicas=1) for name in SERVICES))
    await stage.apply(*(service(name, "ClusterIP") for name in SERVICES))
    for name in SERVICES:
        await stage.kubectl("rollout", "status", f"deployment/{name}", "--timeout=60s")
    await stage.kubectl("rollout", "status", "deployment/vrata-ingress", "-n", "vrata-ingress", "--timeout=60s")
    return Site(stage, await stage.address_of("vrata-ingress", "vrata-ingress"))


# The documentation's table of examples, row by row: rules, the request's path, which rule it is for (0: none).
EXAMPLES: list[tuple[list[tuple[str, str]], str, int]] = [
    ([("Prefix", "/")], "/any/path", 1),
    ([("Exact", "/foo")], "/foo", 1),
    ([("Exact", "/foo")], "/bar", 0),
    ([("Exact", "/foo")], "/foo/", 0),
    ([("Exact", "/foo/")], "/foo", 0),
    ([("Prefix", "/foo")], "/foo", 1),
    ([("Prefix", "/foo")], "/foo/", 1),
    ([("Prefix", "/foo/")], "/foo", 1),
    ([("Prefix", "/foo/")], "/foo/", 1),
    ([("Prefix", "/aaa/bb")], "/aaa/bbb", 0),
    ([("Prefix", "/aaa/bbb")], "/aaa/bbb", 1),
    ([("Prefix", "/aaa/bbb/")], "/aaa/bbb", 1),
    ([("Prefix", "/aaa/bbb")], "/aaa/bbb/", 1),
    ([("Prefix", "/aaa/bbb")], "/aaa/bbb/ccc", 1),
    ([("Prefix", "/aaa/bbb")], "/aaa/bbbxyz", 0),
    ([("Prefix", "/"), ("Prefix", "/aaa")], "/aaa/ccc", 2),
    ([("Prefix", "/"), ("Prefix", "/aaa"), ("Prefix", "/aaa/bbb")], "/aaa/bbb", 3),
    ([("Prefix", "/"), ("Prefix", "/aaa"), ("Prefix", "/aaa/bbb")], "/ccc", 1),
    ([("Prefix", "/aaa")], "/ccc", 0),
    ([("Prefix", "/foo"), ("Exact", "/foo")], "/foo", 2),
]


async def test_every_example_of_the_documentation(site: Site) -> None:
    await site.stage.apply(
        ingress(
            "examples",
            *(
                rule(
                    f"row-{row}.example",
                    *((kind, path, SERVICES[number]) for number, (kind, path) in enumerate(paths)),
                )
                for row, (paths, _, _) in enumerate(EXAMPLES)
            ),
        )
    )
    await site.until("row-0.example", "/", SERVICES[0])
    found = [await site.ask(f"row-{row}.example", path) for row, (_, path, _) in enumerate(EXAMPLES)]
    assert found == [SERVICES[number - 1] if number else "404" for _, _, number in EXAMPLES]


async def test_the_longest_path_wins_and_exact_before_prefix_across_ingresses(site: Site) -> None:
    host = "across.example"
    await site.stage.apply(
        ingress("across-1", rule(host, ("Prefix", "/", "first"), ("Prefix", "/a/b", "first"))),
        ingress("across-2", rule(host, ("Prefix", "/a", "second"), ("Exact", "/a/b", "third"))),
    )
    await site.until(host, "/a/b", "third")
    assert [await site.ask(host, path) for path in ("/x", "/a", "/a/bc", "/a/b/c")] == [
        *("first", "second", "second", "first"),
    ]


async def test_host_rules(site: Site) -> None:
    """A host by itself before the wildcard, which covers one label; the table of «Hostname wildcards»."""
    await site.stage.apply(
        ingress("hosts-1", rule("*.foo.com", ("Prefix", "/", "first"))),
        ingress("hosts-2", rule("bar.foo.com", ("Prefix", "/only", "second"))),
    )
    await site.until("bar.foo.com", "/only", "second")
    await site.until("other.foo.com", "/", "first")
    hosts = ("baz.bar.foo.com", "foo.com", "BAR.foo.com", "bar.foo.com:80")
    assert [await site.ask(host, "/only") for host in hosts] == ["404", "404", "second", "second"]


async def test_ports_by_number_and_by_name_and_a_service_that_is_not_there(site: Site) -> None:
    by_number = rule("number.example", ("Prefix", "/", "first"))
    by_number["http"]["paths"][0]["backend"]["service"]["port"] = {"number": 80}
    missing = rule("missing.example", ("Prefix", "/", "nobody"))
    await site.stage.apply(ingress("ports", by_number, rule("name.example", ("Prefix", "/", "second")), missing))
    await site.until("number.example", "/", "first")
    await site.until("name.example", "/", "second")
    await site.until("missing.example", "/", "503")


async def test_ingress_class(site: Site) -> None:
    """Ours by name; another controller's never; without a name only when ours is the default one."""
    other = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": "another"},
        "spec": {"controller": "example.com/controller"},
    }
    everything = ("Prefix", "/", "first")
    annotate = ("annotate", "ingressclass", "vrata", "--overwrite")
    await site.stage.kubectl(*annotate, "ingressclass.kubernetes.io/is-default-class=false")
    await site.stage.apply(
        other,
        ingress("class-another", rule("another.example", everything), class_name="another"),
        ingress("class-none", rule("none.example", everything), class_name=None),
        ingress("class-ours", rule("ours.example", everything)),
    )
    await site.until("ours.example", "/", "first")
    assert await site.ask("another.example", "/") == "404"
    assert await site.ask("none.example", "/") == "404"
    await site.stage.kubectl(*annotate, "ingressclass.kubernetes.io/is-default-class=true")
    await site.until("none.example", "/", "first")


async def test_load_balancing_over_ten_pods(site: Site) -> None:
    await site.stage.apply(echo_deployment("ten", replicas=PODS), service("ten", "ClusterIP"))
    await site.stage.apply(ingress("ten", rule("ten.example", ("Prefix", "/", "ten"))))
    await site.stage.kubectl("rollout", "status", "deployment/ten", "--timeout=60s")
    await site.until("ten.example", "/", "ten")
    seen: set[str] = set()

    async def all_answer() -> bool:
        _, body = await site.stage.curl("client", f"http://{site.address}/", "-H", "Host: ten.example")
        seen.add(str(json.loads(body)["pod"]))
        return len(seen) == PODS

    await site.stage.wait(f"each of {PODS} pods answers", all_answer)
    await site.stage.kubectl("delete", "deployment/ten", "service/ten", "ingress/ten")


async def test_the_status_has_the_address_in_front_and_loses_it_with_the_class(site: Site) -> None:
    await site.stage.apply(ingress("status", rule("status.example", ("Prefix", "/", "first"))))

    async def addresses() -> list[str]:
        found = (await site.stage.object("ingress", "status")).get("status", {}).get("loadBalancer", {})
        return [entry["ip"] for entry in found.get("ingress") or []]

    async def there() -> bool:
        return await addresses() == [site.address]

    async def gone() -> bool:
        return await addresses() == []

    await site.stage.wait("the status has the address", there)
    await site.stage.apply(ingress("status", rule("status.example", ("Prefix", "/", "first")), class_name="another"))
    await site.stage.wait("and no more", gone)


async def test_default_backend(site: Site) -> None:
    """For what no rule is for, of any host; an Ingress may have nothing else."""
    await site.stage.apply(ingress("fallback", defaultBackend=backend("fallback")))
    await site.until("nobody.example", "/any", "fallback")
    await site.until("row-18.example", "/ccc", "fallback")  # «no, uses default backend»; each host has a row of its own
    assert await site.ask("row-18.example", "/aaa") == "first"
    await site.stage.kubectl("delete", "ingress/fallback")
    await site.until("nobody.example", "/any", "404")


async def test_a_rule_without_paths_leaves_its_host_to_the_default_backend(site: Site) -> None:
    """«If a defaultBackend is set with no rules, or none of the hosts or paths match»; such a rule has none."""
    bare = {"host": "bare.example"}
    rules = (bare, rule("beside.example", ("Exact", "/only", "first")))
    await site.stage.apply(ingress("bare", *rules, defaultBackend=backend("fallback")))
    await site.until("beside.example", "/only", "first")
    await site.until("bare.example", "/any", "fallback")
    await site.until("beside.example", "/other", "fallback")
    await site.stage.kubectl("delete", "ingress/bare")
    await site.until("bare.example", "/any", "404")


async def test_a_rule_without_a_host_is_for_all_of_them_that_have_no_other(site: Site) -> None:
    await site.stage.apply(
        ingress("named", rule("named.example", ("Prefix", "/a", "first"))),
        ingress("unnamed", rule("", ("Prefix", "/a/b", "second"))),
    )
    await site.until("any.example", "/a/b", "second")
    await site.until("named.example", "/a/b", "first")
    assert await site.ask("any.example", "/a") == "404"
    await site.stage.kubectl("delete", "ingress/named", "ingress/unnamed")


async def test_tls_with_a_certificate_for_each_name_and_a_default_one(site: Site, tmp_path: Path) -> None:
    """Two Secrets of one Ingress, told apart by the name in the handshake; HTTP is sent to HTTPS; HTTP/2 is spoken."""
    names = ("one.tls.example", "two.tls.example")
    trusted = {}
    for name in names:
        identity = issue(name, name)
        trusted[name] = tmp_path / name
        trusted[name].write_text(identity.cert_pem)
        data = {"tls.crt": identity.cert_pem, "tls.key": identity.key_pem}
        metadata = {"name": name.replace(".", "-")}
        await site.stage.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": metadata,
                "type": "kubernetes.io/tls",
                "stringData": data,
            }
        )
    tls = [{"hosts": [name], "secretName": name.replace(".", "-")} for name in names]
    await site.stage.apply(
        ingress(
            "tls",
            rule(names[0], ("Prefix", "/", "first")),
            rule(names[1], ("Prefix", "/", "second")),
            rule("other.tls.example", ("Prefix", "/", "third")),
            tls=tls,
        )
    )

    async def ask(name: str, *options: str) -> tuple[int, str]:
        status, said = await site.stage.curl(
            "client",
            f"https://{name}/",
            "--resolve",
            f"{name}:443:{site.address}",
            "-w",
            "\\n%{http_version}\\n%{http_code}",
            *options,
        )
        return status, said

    for name, served in zip(names, ("first", "second"), strict=True):
        own = ("--cacert", str(trusted[name]))

        async def verified(name: str = name, own: tuple[str, str] = own) -> str:
            return (await ask(name, *own))[1]

        said = await site.stage.wait(f"{name} has its certificate", verified)
        assert json.loads(said.rpartition("\n")[0])["service"] == served
        assert said.endswith("\n2")
    assert (await ask(names[1], "--cacert", str(trusted[names[0]])))[0] == 0
    assert await site.ask(names[0], "/x") == "308"
    assert (await ask("other.tls.example"))[0] == 0, "nobody vouches for the default one"
    assert json.loads((await ask("other.tls.example", "-k"))[1].rpartition("\n")[0])["service"] == "third"


async def test_the_status_is_removed_with_the_class_and_written_again_when_it_returns(site: Site) -> None:
    mine: Json = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "passing"}}
    mine["spec"] = {"controller": "vrata.dev/ingress-controller"}
    entry = ingress("passing", rule("passing.example", ("Prefix", "/", "first")), class_name="passing")

    async def addresses() -> list[str]:
        found = (await site.stage.object("ingress", "passing")).get("status", {}).get("loadBalancer", {})
        return [one["ip"] for one in found.get("ingress") or []]

    async def there() -> bool:
        return await addresses() == [site.address]

    async def gone() -> bool:
        return not await addresses()

    await site.stage.apply(mine, entry)
    await site.until("passing.example", "/", "first")
    await site.stage.wait("the status has the address", there)
    await site.stage.kubectl("delete", "ingressclass/passing")
    await site.until("passing.example", "/", "404")
    await site.stage.wait("and no more", gone)
    await site.stage.apply(mine)
    await site.until("passing.example", "/", "first")
    await site.stage.wait("the status has the address again", there)
    await site.stage.kubectl("delete", "ingress/passing", "ingressclass/passing")


async def test_a_rate_is_of_both_replicas_together(site: Site) -> None:
    """Each alone would let in as many; the manifest makes them peers."""
    limited = ingress("limited", rule("limited.example", ("Prefix", "/", "first")))
    words = {"limit-rpm": "8", "limit-burst-multiplier": "1"}
    limited["metadata"]["annotations"] = {f"nginx.ingress.kubernetes.io/{name}": value for name, value in words.items()}
    await site.stage.apply(limited)
    await site.until("limited.example", "/", "first")
    found = [await site.ask("limited.example", "/") for _ in range(24)]
    assert 6 <= found.count("first") <= 10
    assert set(found) == {"first", "429"}
