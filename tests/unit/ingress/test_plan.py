"""Plans converge, are idempotent, and are safe to stop after any step."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.ingress.model import (
    REDIRECT,
    BackendKey,
    Certificate,
    Place,
    Policy,
    Route,
    RowKey,
    Scheme,
    SecretKey,
    Server,
    Slot,
)
from vrata.ingress.places import LIVE, PATTERNS, PLAIN, Kind, policy_name, slot_name
from vrata.ingress.plan import (
    Action,
    AddCertificate,
    AddFile,
    AddPolicy,
    AddServer,
    AddSlot,
    Assign,
    Desired,
    DropAuthority,
    DropCertificate,
    DropFile,
    DropPolicy,
    DropRow,
    DropThrough,
    Observed,
    Patterns,
    PutAuthority,
    PutRow,
    PutThrough,
    PutUsers,
    Release,
    Reload,
    RemoveServer,
    ReplacePatterns,
    ReviveServer,
    plan_pass,
    policy_rows,
)
from vrata.ingress.rows import host_of, pattern_of, prefix_row
from vrata.ingress.served import secret_digest

SLOTS = tuple(slot_name(number) for number in range(4))


@dataclass
class Proxy:
    """What HAProxy would have after each step; it asserts what HAProxy would refuse."""

    owners: dict[Slot, BackendKey] = field(default_factory=dict)
    rows: dict[RowKey, Place] = field(default_factory=dict)
    patterns: dict[str, Patterns] = field(default_factory=dict)
    policies: set[str] = field(default_factory=set)
    users: dict[SecretKey, str] = field(default_factory=dict)
    servers: dict[Slot, dict[str, bool]] = field(default_factory=dict)
    certificates: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    authorities: dict[str, str] = field(default_factory=dict)
    through: dict[str, Slot] = field(default_factory=dict)
    slots: list[Slot] = field(default_factory=lambda: list(SLOTS))
    live: frozenset[Kind] = frozenset()

    def observed(self) -> Observed:
        hosts: dict[str, dict[RowKey, Place]] = {}
        for row, place in self.rows.items():
            hosts.setdefault(host_of(row), {})[row] = place
        free = tuple(slot for slot in self.slots if slot not in self.owners)
        places = {backend: slot for slot, backend in self.owners.items()}
        certificates, policies = frozenset(self.certificates), frozenset(self.policies)
        patterns = {Scheme.HTTPS: dict(self.patterns)}
        users, files, authorities = dict(self.users), frozenset(self.files), dict(self.authorities)
        return Observed(
            places,
            free,
            {Scheme.HTTPS: hosts},
            self.servers,
            certificates,
            policies,
            patterns,
            users,
            files,
            authorities,
            dict(self.through),
            live=self.live,
        )

    def served(self, host: str) -> dict[str, tuple[BackendKey, str]]:
        """What serves each row or pattern of a host: the backend, and its policy's name; all of which must be there."""
        rows: dict[str, Place] = {row: place for row, place in self.rows.items() if host_of(row) == host}
        if PATTERNS in rows.values():
            rows = dict(self.patterns[host])
        found = {}
        for row, place in rows.items():
            slots, _, policy = place.partition("/")
            name = policy.partition("/")[0] or PLAIN
            assert name in self.policies | {PLAIN}
            found[row] = self.owners[Slot(slots)], name
        return found

    def apply(self, action: Action) -> None:
        match action:
            case AddSlot(slot=slot):
                assert slot[0] in self.live
                assert slot not in self.slots
                self.slots.append(slot)
            case Assign(slot=slot, backend=backend):
                assert slot in self.slots
                assert slot not in self.owners
                self.owners[slot] = backend
            case AddServer(slot=slot, server=server):
                assert server.name not in self.servers.setdefault(slot, {})
                self.servers[slot][server.name] = False
            case ReviveServer(slot=slot, server=name):
                assert self.servers[slot][name]
                self.servers[slot][name] = False
            case PutRow(row=row, place=place, was=was):
                assert self.rows.get(row) == was
                self.rows[row] = place
            case DropRow(row=row):
                del self.rows[row]
            case RemoveServer(slot=slot, server=name):
                del self.servers[slot][name]
            case Release(slot=slot):
                assert not self.servers.get(slot)
                assert not any(slot in place for place in self.rows.values())
                assert not any(slot in place for rows in self.patterns.values() for _, place in rows)
                del self.owners[slot]
            case AddPolicy(name=name):
                assert name not in self.policies
                self.policies.add(name)
            case DropPolicy(name=name):
                self.policies.remove(name)
            case _:
                self.change_file(action)

    def change_file(self, action: Action) -> None:
        match action:
            case PutUsers(secret=secret, version=version, was=was):
                assert self.users.pop(secret, None) == was
                if version:
                    self.users[secret] = version
            case ReplacePatterns(hosts=hosts):
                self.patterns = dict(hosts)
            case AddCertificate(name=name):
                assert name not in self.certificates
                self.certificates.add(name)
            case DropCertificate(name=name):
                self.certificates.remove(name)
            case AddFile(name=name):
                assert name not in self.files
                self.files.add(name)
            case DropFile(name=name):
                self.files.remove(name)
            case PutAuthority(host=host, digest=digest):
                assert host not in self.authorities, "connections of the old one would pass for the new one's"
                self.authorities[host] = digest
            case DropAuthority(host=host):
                del self.authorities[host]
            case PutThrough(host=host, slot=slot, was=was):
                assert self.through.get(host) == was
                self.through[host] = slot
            case DropThrough(host=host):
                del self.through[host]
            case _:
                raise AssertionError("not a step")


keys = st.sampled_from([BackendKey(f"default/{name}:80") for name in "abcd"])
servers = st.frozensets(st.integers(1, 3), max_size=3).map(
    lambda numbers: tuple(Server(f"s-{number}", f"10.0.0.{number}", 80) for number in sorted(numbers))
)
policies = st.sampled_from([Policy(""), Policy("allow=10.0.0.0/8"), Policy("timeout=5")])
routes = st.builds(lambda backend, policy: Route(backend, policy=policy), keys, policies)
# Each host has rows or patterns, by path.
hosts = st.tuples(st.booleans(), st.dictionaries(st.sampled_from(["/x", "/y"]), routes, max_size=2))
worlds = st.tuples(
    st.fixed_dictionaries({"g": hosts, "h": hosts}),
    st.fixed_dictionaries({BackendKey(f"default/{name}:80"): servers for name in "abcd"}),
)
Hosts = dict[str, tuple[bool, dict[str, Route]]]


def wanted(host: str, asked: Hosts) -> dict[str, tuple[BackendKey, str]]:
    patterned, paths = asked[host]
    key = pattern_of if patterned else prefix_row
    return {key(host, path): (route.backend, policy_name(route.policy)) for path, route in paths.items()}


def desired_of(asked: Hosts, servers: dict[BackendKey, tuple[Server, ...]], proxy: Proxy) -> Desired:
    """Everything is looked at."""
    used = {route.backend for _, paths in asked.values() for route in paths.values()}
    policies = policy_rows(route.policy for _, paths in asked.values() for route in paths.values())
    rows = {
        host: {} if patterned else {prefix_row(host, path): route for path, route in paths.items()}
        for host, (patterned, paths) in asked.items()
    }
    patterns = {
        host: tuple((pattern_of(host, path), route) for path, route in paths.items()) if patterned else ()
        for host, (patterned, paths) in asked.items()
    }
    return Desired(
        rows,
        patterns,
        dict.fromkeys(proxy.policies) | policies,
        backends={key: servers[key] for key in used},
        unwanted=frozenset(set(proxy.owners.values()) - used),
    )


# With enough places, or with the means to add them.
proxies = st.sampled_from([SLOTS, SLOTS[:1], ()]).map(
    lambda slots: Proxy(slots=list(slots), live=frozenset() if slots == SLOTS else LIVE)
)


@given(proxies, st.lists(worlds, min_size=1, max_size=4), st.data())
def test_plans_converge_from_wherever_the_one_before_stopped(
    proxy: Proxy, passes: list[tuple[Hosts, dict[BackendKey, tuple[Server, ...]]]], data: st.DataObject
) -> None:
    for asked, servers_ in passes:
        before = {host: proxy.served(host) for host in asked}
        plan = plan_pass(proxy.observed(), desired_of(asked, servers_, proxy))
        stop = data.draw(st.integers(0, len(plan)))
        for action in plan[:stop]:
            proxy.apply(action)
            for host in asked:
                old, new = before[host], wanted(host, asked)
                for row, served in proxy.served(host).items():
                    assert served in {old.get(row), new.get(row)}
    for _ in range(2):  # the second releases what the first emptied
        for action in plan_pass(proxy.observed(), desired_of(asked, servers_, proxy)):
            proxy.apply(action)
    assert plan_pass(proxy.observed(), desired_of(asked, servers_, proxy)) == []
    for host in asked:
        assert proxy.served(host) == wanted(host, asked)
    # What was left is taken before another is added.
    assert len(proxy.slots) <= len(SLOTS)
    assert proxy.policies == policy_rows(route.policy for _, paths in asked.values() for route in paths.values()).keys()
    for slot, backend in proxy.owners.items():
        assert proxy.servers.get(slot, {}) == {server.name: False for server in servers_[backend]}


def test_a_new_host_for_a_known_backend_is_one_row() -> None:
    key = BackendKey("default/web:80")
    proxy = Proxy({SLOTS[0]: key})
    row = RowKey("new.example/")
    plan = plan_pass(proxy.observed(), Desired({"new.example": {row: Route(key)}}))
    assert plan == [PutRow(Scheme.HTTPS, row, Place(SLOTS[0]), None)]


def test_a_route_for_https_only_is_a_redirect_over_http() -> None:
    key = BackendKey("default/web:80")
    row = RowKey("new.example/")
    observed = Observed({key: SLOTS[0]}, (), {Scheme.HTTP: {}, Scheme.HTTPS: {}}, {})
    plan = plan_pass(observed, Desired({"new.example": {row: Route(key, https_only=True)}}))
    assert plan == [PutRow(Scheme.HTTP, row, REDIRECT, None), PutRow(Scheme.HTTPS, row, Place(SLOTS[0]), None)]


SECRET = SecretKey("default/secret")
TRUSTED = SecretKey("default/trusted;authority")


def test_a_new_certificate_is_served_before_the_old_one_goes() -> None:
    proxy = Proxy()
    for pem in ("one", "two"):
        plan = plan_pass(proxy.observed(), Desired(certificates={SECRET: (Certificate(pem, ("h.example",)),)}))
        for action in plan:
            proxy.apply(action)
    assert [type(action) for action in plan] == [AddCertificate, DropCertificate]
    assert len(proxy.certificates) == 1
    assert plan_pass(proxy.observed(), Desired(certificates={SECRET: (Certificate("two", ("h.example",)),)})) == []
    assert [type(one) for one in plan_pass(proxy.observed(), Desired(certificates={SECRET: ()}))] == [DropCertificate]


@pytest.mark.parametrize("label", ["h", "h" * 63])
def test_a_certificate_for_very_many_hosts_is_in_several_files(label: str) -> None:
    """However long they are: a list of them goes through the socket at once."""
    hosts = tuple(f"host-{number}.{label}.{label}.{label}.example" for number in range(450))
    plan = plan_pass(Proxy().observed(), Desired(certificates={SECRET: (Certificate("pem", hosts),)}))
    lists = [one.certificate.hosts for one in plan if isinstance(one, AddCertificate)]
    assert tuple(host for some in lists for host in some) == hosts
    assert len(lists) > 1
    assert all(len(" ".join(some)) <= 6_000 for some in lists)


def test_files_of_forgotten_secrets_go_and_those_of_others_stay() -> None:
    proxy = Proxy(certificates={"crt-aa.pem", "crt-bb.pem"})
    assert plan_pass(proxy.observed(), Desired(strays=frozenset({"crt-aa.pem"}))) == [DropCertificate("crt-aa.pem")]


def test_a_certificate_too_long_for_the_socket_is_a_reload() -> None:
    (action,) = plan_pass(
        Proxy().observed(), Desired(certificates={SECRET: (Certificate("x" * 20_000, ("h.example",)),)})
    )
    assert isinstance(action, Reload)
    assert action.reason == "a certificate too long to be sent"


def test_a_server_on_its_way_out_is_revived_and_not_added_again() -> None:
    key, server = BackendKey("default/web:80"), Server("s-1", "10.0.0.1", 80)
    proxy = Proxy({SLOTS[0]: key}, servers={SLOTS[0]: {"s-1": True}})
    assert plan_pass(proxy.observed(), Desired(backends={key: (server,)})) == [ReviveServer(SLOTS[0], "s-1")]


def test_more_backends_than_are_prepared_are_one_reload_and_nothing_else() -> None:
    many = {BackendKey(f"default/{number}:80"): () for number in range(len(SLOTS) + 1)}
    (action,) = plan_pass(Proxy().observed(), Desired(backends=dict(many)))
    assert isinstance(action, Reload)
    assert "5 more backends, 4 are prepared" in action.detail


def test_where_places_can_be_added_a_new_backend_takes_a_free_one_and_then_further_ones() -> None:
    one, two, three = (BackendKey(f"default/{name}:80") for name in ("one", "two", "three"))
    proxy = Proxy({SLOTS[3]: one}, slots=[SLOTS[1], SLOTS[3]], live=LIVE)
    further = slot_name(4)
    assert plan_pass(proxy.observed(), Desired(backends={two: (), three: ()})) == [
        AddSlot(further),
        Assign(SLOTS[1], three),
        Assign(further, two),
    ]


def test_a_place_for_a_cookie_can_not_be_added() -> None:
    pinned = BackendKey("default/web:80;hash;opaque")
    (action,) = plan_pass(Proxy(live=LIVE).observed(), Desired(backends={pinned: ()}))
    assert isinstance(action, Reload)
    plan = plan_pass(Proxy(slots=[slot_name(0, Kind.COOKIE)]).observed(), Desired(backends={pinned: ()}))
    assert plan == [Assign(slot_name(0, Kind.COOKIE), pinned)]


def test_a_place_is_free_only_when_its_last_server_has_gone() -> None:
    key = BackendKey("default/web:80")
    proxy = Proxy({SLOTS[0]: key}, servers={SLOTS[0]: {"s-1": False}})
    desired = Desired(unwanted=frozenset({key}))
    assert plan_pass(proxy.observed(), desired) == [RemoveServer(SLOTS[0], "s-1")]
    proxy.servers.clear()
    assert plan_pass(proxy.observed(), desired) == [Release(SLOTS[0])]


def test_a_list_of_users_changes_in_one_step_and_goes() -> None:
    proxy = Proxy()
    for version in ("one", "two", None):
        for action in plan_pass(proxy.observed(), Desired(users={SECRET: version})):
            proxy.apply(action)
        assert plan_pass(proxy.observed(), Desired(users={SECRET: version})) == []
    assert not proxy.users


def test_a_host_has_no_authority_while_its_certificate_changes() -> None:
    proxy = Proxy()

    def desired(authority: str, digest: str | None) -> Desired:
        certificate = Certificate("pem", ("h.example",), f"ca-{authority}.pem")
        files = {TRUSTED: {f"ca-{authority}.pem": authority}}
        return Desired(certificates={SECRET: (certificate,)}, files=files, authorities={"h.example": digest})

    def apply(wanted: Desired) -> list[type[Action]]:
        plan = plan_pass(proxy.observed(), wanted)
        for action in plan:
            proxy.apply(action)
        return [type(action) for action in plan]

    one, two = (f"{secret_digest(TRUSTED)}{number:024x}" for number in (1, 2))
    assert apply(desired(one, "1")) == [AddFile, AddCertificate, PutAuthority]
    assert apply(desired(two, "2")) == [AddFile, DropAuthority, AddCertificate, DropCertificate, PutAuthority, DropFile]
    assert proxy.authorities == {"h.example": "2"}
    assert apply(desired(two, "2")) == []
    gone = Desired(certificates={SECRET: ()}, files={TRUSTED: {}}, authorities={"h.example": None})
    assert apply(gone) == [DropAuthority, DropCertificate, DropFile]


def test_a_new_replica_is_a_reload_and_one_that_has_gone_is_not() -> None:
    observed = replace(Proxy().observed(), replicas={"10.0.0.1", "10.0.0.2"})
    assert plan_pass(observed, Desired(replicas=frozenset({"10.0.0.1"}))) == []
    plan = plan_pass(observed, Desired(replicas=frozenset({"10.0.0.2", "10.0.0.3"})))
    assert plan == [Reload("a new replica", "10.0.0.3")]
