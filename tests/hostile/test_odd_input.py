"""No value in any place of any request makes a fault of the service (500): Keystone, Neutron, Nova, Barbican, Octavia."""

import contextlib
import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from tests.support.api_shapes import Ground, parameters_of
from tests.support.cloud import Cloud, FakeHost, postgresql

EXPECTED = {501, 503}  # not offered; what 503 means is asked below
BIG = 2**63
WORST: tuple[Any, ...] = (None, BIG, "", "a\0b", "x" * 300, [], [{}], {})  # these go into every field
NASTY: tuple[Any, ...] = (  # of these, each field gets every sixth, SQLite's other ones than PostgreSQL's
    True, -1, 2**31, -BIG - 1, 10**30, 1.5, 1e308, "\0", "a\nb", "x" * 5000, "٣", "²", "1_0",
    "9" * 5000, str(BIG), "nan", "inf", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "10.9.0.300", "10.9.0.0/33",
    "fe80::1%eth0", "::ffff:10.9.0.1", "fe80::/129", [None], [[]], [1, "a"], ["\0"], [{"id": []}],
    [{"ip_address": "10.9.0.5"}] * 3, ["x"] * 300, {"": ""}, {"network_id": []}, {"a": {"b": [None]}},
    "00000000-0000-0000-0000-000000000000",
)  # fmt: skip
# Where an address space ends, the next address does not exist.
EDGES = (
    "255.255.255.255", "255.255.255.255/32", "255.255.255.254/31", "0.0.0.0", "0.0.0.0/0", "0.0.0.0/32",
    f"{'ffff:' * 7}ffff", f"{'ffff:' * 7}ffff/128", f"{'ffff:' * 4}:/64", "::", "::/0", "::/128",
)  # fmt: skip
SHAPES: tuple[Callable[[str], Any], ...] = (
    lambda edge: edge,
    lambda edge: [edge],
    lambda edge: [{"ip_address": edge}],
    lambda edge: [{"start": edge, "end": edge}],
    lambda edge: [{"destination": edge, "nexthop": edge}],
)
RAW = (
    b"", b"{", b"null", b"[]", b"0", b'"x"', b"[" * 5000, b'{"a":' * 5000, b"\xff\xfe", b'"\\ud800"', b"9" * 5000,
    b'{"server":{"name":"\\ud800"}}', b"1e999", b"NaN",
)  # fmt: skip
LOGINS: tuple[dict[str, Any], ...] = (
    {},
    {"identity": {}},
    {"identity": {"methods": [{}]}},
    {"identity": {"methods": ["password"]}},
    {"identity": {"methods": ["password"], "password": {"user": {"id": [], "password": {}}}}},
    {"identity": {"methods": ["token"], "token": {"id": "\0"}}},
    {"identity": {"methods": ["application_credential"], "application_credential": {"name": [], "user": {}}}},
)
SCOPES: tuple[Any, ...] = (
    None, {}, {"project": {"id": "\0"}}, {"project": {"name": [], "domain": {"id": {}}}}, {"domain": 0},
)  # fmt: skip
WORDS = ("", "\0", "x" * 300, "0", "-1", str(BIG), "9" * 5000, "٣", "%", "..", "\n", "null", "a=b", "a:desc", "id:up")

NAMES = ("%00", "x" * 300, "%ff%fe", "..", "9" * 400, "%F0%9F%98%80", "%0d%0aX:%20y", "%25")  # in a path


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(postgresql())("odd") if request.param == "postgresql" else None
        running = Cloud(tmp_path_factory.mktemp("cloud"), database, "--network-quota", "none")
        running.start()
        yield running
        assert running.stop() == 0


@pytest.fixture(scope="module")
def ground(cloud: Cloud) -> Iterator[Ground]:
    hosts = [FakeHost(cloud, name).start() for name in ("host-a", "host-b")]
    ground = Ground(cloud)
    yield ground
    ground.close()
    for host in hosts:
        host.stop()


def some(values: tuple[Any, ...], ground: Ground, number: int) -> tuple[Any, ...]:
    """Every sixth, from another start for each number and database."""
    return values[(number + 3 * bool(ground.cloud.database)) % 6 :: 6]


class Judge:
    """Collects every answer that is a fault."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.faults: list[str] = []
        self.asked = 0

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> None:
        status, said = self.ground.ask(method, path, body, **headers)
        self.asked += 1
        if status >= 500 and status not in EXPECTED:
            self.faults.append(f"{status} {method} {path[:200]} {str(body)[:200]} {headers}: {str(said)[:200]}")
        elif status == 503 and "key" not in str(said):
            self.faults.append(f"503 {method} {path[:200]} {str(body)[:200]}: {str(said)[:200]}")
        elif status in (200, 201, 202) and method == "POST":
            self._remove(path, said)

    def _remove(self, path: str, made: Any) -> None:
        """Leave the ground as it was."""
        if not isinstance(made, dict) or len(made) != 1:
            return
        one = next(iter(made.values()))
        made_id = one.get("id") if isinstance(one, dict) else one.rsplit("/", 1)[-1] if isinstance(one, str) else None
        if made_id:
            self.ground.ask("DELETE", f"{path}/{quote(str(made_id), safe='')}")

    def verdict(self) -> None:
        assert self.asked
        assert not self.faults, f"{len(self.faults)} of {self.asked}:\n" + "\n".join(self.faults[:40])


def test_no_field_of_any_body_makes_a_fault(ground: Ground) -> None:
    judge = Judge(ground)
    for place in ground.places():
        body = ground.body(place)
        if body is None or (place.endpoint.prepare is not None and place.api == "identity"):
            continue  # hashing: each costs a fifth of a second; see the next test
        for number, field in enumerate(body.fields):
            for value in (*WORST, *some(NASTY, ground, number)):
                judge.ask(place.endpoint.method, place.path, body.with_(**{field: value}))
    judge.verdict()


def test_no_address_at_an_end_of_its_space_makes_a_fault(ground: Ground) -> None:
    judge = Judge(ground)
    for place in ground.places():
        body = ground.body(place)
        if body is None:
            continue
        for field in body.fields:
            if re.search("ip_|_ip|ips$|cidr|address|gateway|prefix|pools$|routes|pairs", field):
                for edge, shape in itertools.product(EDGES, SHAPES):
                    versions = {"ip_version": 6 if ":" in edge else 4} if "ip_version" in body.example else {}
                    judge.ask(place.endpoint.method, place.path, body.with_(**(versions | {field: shape(edge)})))
    assert judge.asked > 1000
    for edge, mode in itertools.product(EDGES, (None, "slaac", "dhcpv6-stateless")):
        wanted: dict[str, Any] = {
            "network_id": ground.ids["networks"],
            "cidr": edge,
            "ip_version": 6 if ":" in edge else 4,
        }
        if mode and wanted["ip_version"] == 6:
            wanted |= {"ipv6_address_mode": mode, "ipv6_ra_mode": mode}
        judge.ask("POST", "/network/v2.0/subnets", {"subnet": wanted})
    judge.verdict()


def test_no_field_of_a_body_with_a_password_makes_a_fault(ground: Ground) -> None:
    judge = Judge(ground)
    for place in ground.places():
        body = ground.body(place)
        if body is None or place.endpoint.prepare is None or place.api != "identity":
            continue
        for number, field in enumerate(body.fields):
            for value in (*WORST, *some(NASTY, ground, number)):
                if field not in {"password", "secret"} or not isinstance(value, str) or "\0" in value:
                    judge.ask(place.endpoint.method, place.path, body.with_(**{field: value}))
    judge.verdict()


def test_no_body_that_is_none_makes_a_fault(ground: Ground) -> None:
    judge = Judge(ground)
    for place in ground.places():
        body = ground.body(place)
        if body is not None:
            for raw in RAW:
                judge.ask(place.endpoint.method, place.path, raw, Content_Type="application/json")
            if body.wrapper:
                for value in (None, 0, "x", [], [None]):
                    judge.ask(place.endpoint.method, place.path, {body.wrapper: value})
                    judge.ask(place.endpoint.method, place.path, {f"{body.wrapper}s": value})
    for part in LOGINS:
        for scope in SCOPES:
            judge.ask("POST", "/identity/v3/auth/tokens", {"auth": {**part, "scope": scope}})
    judge.verdict()


def test_no_word_in_any_query_or_path_makes_a_fault(ground: Ground) -> None:
    judge = Judge(ground)
    for place in ground.places():
        if place.endpoint.method == "GET" and "{" not in place.endpoint.path.replace("{collection}", ""):
            for number, name in enumerate(parameters_of(place)):
                for word in some(WORDS, ground, number):
                    judge.ask("GET", f"{place.path}?{name}={quote(word, safe='')}")
        if "{" in place.endpoint.path and place.endpoint.method in {"GET", "DELETE"}:
            for word in NAMES:
                pieces = place.path.split("/")
                judge.ask(place.endpoint.method, "/".join([*pieces[:-1], word]))
        if place.endpoint.path.endswith("}") and place.endpoint.method in {"PUT", "PATCH"}:
            body = ground.body(place)
            for word in NAMES:
                path = f"{place.path.rpartition('/')[0]}/{word}"
                judge.ask(place.endpoint.method, path, body.with_() if body else None)
    judge.verdict()


def test_where_something_lies_is_said_as_a_url(ground: Ground) -> None:
    project = ground.ids["projects"]
    for word, name in (("%F0%9F%98%80", "%F0%9F%98%80"), ("a%25b%20c", "a%25b%20c")):
        status, _, headers = ground.cloud.request(
            "PUT", f"/identity/v3/projects/{project}/tags/{word}", None, {"X-Auth-Token": ground.cloud.token("admin")}
        )
        assert (status, headers["location"].rpartition("/")[2]) == (201, name)


@pytest.mark.parametrize("name", ["X-Auth-Token", "X-Subject-Token", "OpenStack-API-Version", "Accept", "Content-Type",
                                  "Content-Encoding", "Host", "X-Forwarded-Proto"])  # fmt: skip
def test_no_header_makes_a_fault(ground: Ground, name: str) -> None:
    judge = Judge(ground)
    for word in (
        "",
        "x" * 3000,
        "é",
        "compute 99999.1",
        "a;b;c,",
        "compute 2.١".encode().decode("latin-1"),
        "\t",
        "%00",
    ):
        for path in ("/identity/v3/auth/tokens", "/compute/v2.1/servers/detail", "/network/v2.0/networks",
                     f"/key-manager/v1/secrets/{ground.ids['secrets']}/payload", "/load-balancer/v2.0/lbaas/pools"):  # fmt: skip
            judge.ask("GET", path, None, **{name: word})
        judge.ask("PUT", f"/key-manager/v1/secrets/{ground.ids['secrets']}", b"x", **{name: word})
    judge.verdict()


def test_a_number_that_no_column_holds_is_named(ground: Ground) -> None:
    body = {"network": {"name": "n", "provider:segmentation_id": BIG}}
    status, said = ground.ask("POST", "/network/v2.0/networks", body)
    assert (status, "provider:segmentation_id" in json.dumps(said)) == (400, True)
