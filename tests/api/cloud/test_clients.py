"""What clients of OpenStack write and read beyond openstacksdk's own habits: spellings, revisions, times, attributes."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from tests.api.cloud.test_balancing import wait_active
from tests.support.cloud import Cloud

from vrata.cloud import migrate
from vrata.cloud.balancing import carry
from vrata.cloud.balancing import tables as t
from vrata.cloud.http import now
from vrata.cloud.network.api import ENDPOINTS
from vrata.cloud.settings import Settings
from vrata.cloud.store import Store, Tx

BASE = "/network/v2.0"
LB = "/load-balancer/v2/lbaas"


def ask(cloud: Cloud, method: str, path: str, body: Any = None, user: str = "admin", **headers: str) -> tuple[int, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return cloud.request(method, path, body, {"X-Auth-Token": cloud.token(user), **named})[:2]


@pytest.mark.parametrize("path", [one.path for one in ENDPOINTS if re.match("/[a-z]+[-_]", one.path)])
def test_neutron_takes_hyphens_and_underscores(cloud: Cloud, world: SimpleNamespace, path: str) -> None:
    _ = world
    group = ask(cloud, "GET", f"{BASE}/security-groups")[1]["security_groups"][0]["id"]
    collection, slash, rest = re.sub(r"{\w+}", group, path).removeprefix("/").partition("/")
    spelled = [f"{BASE}/{collection.replace(*how)}{slash}{rest}" for how in (("_", "-"), ("-", "_"))]
    answers = [ask(cloud, "GET", one) for one in spelled]
    assert answers[0] == answers[1]
    assert "has no" not in str(answers[0])


def revision(cloud: Cloud, kind: str, row_id: str) -> int:
    body = ask(cloud, "GET", f"{BASE}/{kind}/{row_id}")[1]
    return int(next(iter(body.values()))["revision_number"])


def test_a_change_of_what_has_changed_since_is_412(cloud: Cloud, admin: Any, name: str) -> None:
    """RevisionPlugin of Neutron: PUT and DELETE of every resource that has a revision number."""
    net = admin.network
    network = net.create_network(name=name)
    subnet = net.create_subnet(network_id=network.id, ip_version=4, cidr="10.77.0.0/24")
    made = {
        "ports": net.create_port(network_id=network.id).id, "routers": net.create_router(name=name).id,
        "subnets": subnet.id, "networks": network.id,
        "subnetpools": net.create_subnet_pool(name=name, prefixes=["10.99.0.0/16"]).id,
        "security-groups": net.create_security_group(name=name).id,
    }  # fmt: skip
    for kind, row_id in made.items():
        path, singular = f"{BASE}/{kind}/{row_id}", kind[:-1].replace("-", "_")
        now = revision(cloud, kind, row_id)
        change = {singular: {"description": "new"}}
        stale = {"If_Match": f"revision_number={now - 1}"}
        for status, said in (
            ask(cloud, "PUT", path, change, **stale), ask(cloud, "DELETE", path, **stale),
            ask(cloud, "PUT", f"{path}/tags/x", **stale),
        ):  # fmt: skip
            assert (status, said["NeutronError"]["type"]) == (412, "RevisionNumberConstraintFailed")
            assert said["NeutronError"]["message"] == f"Constrained to {now - 1}, but current revision is {now}"
        assert ask(cloud, "PUT", path, change, If_Match=f"revision_number={now}")[0] == 200
        assert revision(cloud, kind, row_id) == now + 1
        for odd in ("revision_number=x", '"revision_number=1", "revision_number=2"'):
            assert ask(cloud, "PUT", path, change, If_Match=odd)[0] == 400
        assert ask(cloud, "PUT", path, change, If_Match='"something else"')[0] == 200
        assert ask(cloud, "DELETE", path, If_Match=f'"revision_number={now + 2}"')[0] == 204


def test_a_change_of_a_part_is_a_change_of_the_whole(cloud: Cloud, admin: Any, little: SimpleNamespace) -> None:
    net = admin.network
    group, router = net.create_security_group(), net.create_router()
    seen = [revision(cloud, "security-groups", group.id)]
    rule = net.create_security_group_rule(security_group_id=group.id, direction="ingress", protocol="tcp")
    seen.append(revision(cloud, "security-groups", group.id))
    net.delete_security_group_rule(rule)
    seen.append(revision(cloud, "security-groups", group.id))
    assert seen == sorted(set(seen))
    seen = [revision(cloud, "routers", router.id)]
    net.add_interface_to_router(router, subnet_id=little.subnet.id)
    seen.append(revision(cloud, "routers", router.id))
    net.remove_interface_from_router(router, subnet_id=little.subnet.id)
    seen.append(revision(cloud, "routers", router.id))
    assert seen == sorted(set(seen))
    net.delete_router(router)
    net.delete_security_group(group)


def test_what_binds_a_port_is_the_operators(cloud: Cloud, demo: Any, little: SimpleNamespace) -> None:
    profile = {"trusted": "true", "pci": {"slot": 1}}
    port = demo.network.create_port(network_id=little.network.id)
    path = f"{BASE}/ports/{port.id}"
    bound = {"port": {"binding:profile": profile, "binding:host_id": "node-1"}}
    assert ask(cloud, "PUT", path, bound, "demo")[0] == 403
    assert ask(cloud, "GET", path)[1]["port"]["binding:vif_type"] == "unbound"
    shown = ask(cloud, "PUT", path, bound)[1]["port"]
    assert (shown["binding:profile"], shown["binding:host_id"], shown["binding:vif_type"]) == (
        profile, "node-1", "other",
    )  # fmt: skip
    assert ask(cloud, "PUT", path, {"port": {"binding:profile": None}})[1]["port"]["binding:profile"] == {}
    assert ask(cloud, "PUT", path, {"port": {"binding:profile": {"x": "y" * 5000}}})[0] == 400
    assert ask(cloud, "PUT", path, {"port": {"binding:vnic_type": "paper"}})[0] == 400
    theirs = ask(cloud, "GET", path, None, "demo")[1]["port"]
    assert {name for name in theirs if name.startswith("binding:")} == {"binding:vnic_type"}


def test_policies_of_a_whole_tree_are_shown_whole(cloud: Cloud, demo: Any, world: SimpleNamespace) -> None:
    rule = {"type": "PATH", "compare_type": "STARTS_WITH", "value": "/a"}
    listener = {
        "protocol": "HTTP", "protocol_port": 80,
        "l7policies": [
            {"action": "REJECT", "position": 2, "rules": [rule]},
            {"action": "REDIRECT_TO_URL", "redirect_url": "http://x.example/", "position": 1, "rules": [rule, rule]},
        ],
    }  # fmt: skip
    body = {"loadbalancer": {"vip_subnet_id": world.subnet.id, "listeners": [listener]}}
    made = ask(cloud, "POST", f"{LB}/loadbalancers", body, "demo")[1]["loadbalancer"]
    shown = made["listeners"][0]["l7policies"]
    assert [(one["position"], len(one["rules"]), one["action"]) for one in shown] == [
        (1, 2, "REDIRECT_TO_URL"), (2, 1, "REJECT"),
    ]  # fmt: skip
    assert all(rule.items() <= held.items() for one in shown for held in one["rules"])
    wait_active(demo, made["id"])
    for one in shown:  # the same as a look at each afterwards, but for its state
        alone = ask(cloud, "GET", f"{LB}/l7policies/{one['id']}", None, "demo")[1]["l7policy"]
        assert alone["rules"] == [{"id": held["id"]} for held in one["rules"]]
        assert alone.keys() == one.keys()
    demo.load_balancer.delete_load_balancer(made["id"], cascade=True)


def test_a_monitor_that_speaks_no_http_keeps_its_version(cloud: Cloud, demo: Any, world: SimpleNamespace) -> None:
    monitor = {
        "type": "TCP",
        "delay": 5,
        "timeout": 3,
        "max_retries": 2,
        "http_version": 1.1,
        "domain_name": "a.example",
    }
    pool = {"name": "p", "protocol": "TCP", "lb_algorithm": "ROUND_ROBIN", "healthmonitor": monitor}
    body = {"loadbalancer": {"vip_subnet_id": world.subnet.id, "pools": [pool]}}
    status, made = ask(cloud, "POST", f"{LB}/loadbalancers", body, "demo")
    assert status == 201, made
    shown = made["loadbalancer"]["pools"][0]["healthmonitor"]
    assert (shown["http_version"], shown["domain_name"], shown["http_method"]) == (1.1, "a.example", None)
    wait_active(demo, made["loadbalancer"]["id"])
    path = f"{LB}/healthmonitors/{shown['id']}"
    for status, change in ((400, {"http_method": "GET"}), (400, {"http_version": 1.0}), (200, {"domain_name": None})):
        assert ask(cloud, "PUT", path, {"healthmonitor": change}, "demo")[0] == status, change
        wait_active(demo, made["loadbalancer"]["id"])
    demo.load_balancer.delete_load_balancer(made["loadbalancer"]["id"], cascade=True)


@pytest.mark.parametrize("cloud", ["sqlite"], indirect=True, scope="session")
def test_an_expiry_is_written_as_keystone_writes_it(cloud: Cloud, demo: Any, name: str) -> None:
    """Keystone writes application credentials' times without a zone and tokens' with one; Go parses nothing else."""
    path = f"/identity/v3/users/{demo.current_user_id}/application_credentials"
    asked = {"name": name, "expires_at": "2100-01-01T00:00:00Z"}
    made = ask(cloud, "POST", path, {"application_credential": asked}, "demo")[1]["application_credential"]
    assert made["expires_at"] == "2100-01-01T00:00:00.000000"
    (shown,) = ask(cloud, "GET", f"{path}?name={name}", None, "demo")[1]["application_credentials"]
    assert shown["expires_at"] == made["expires_at"]
    token = ask(cloud, "GET", "/identity/v3/auth/tokens", X_Subject_Token=cloud.token("demo"))[1]["token"]
    for word in ("issued_at", "expires_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", token[word])


@pytest.mark.parametrize("cloud", ["sqlite"], indirect=True, scope="session")
@pytest.mark.parametrize("collection", ["users", "projects", "roles", "domains"])
def test_identity_keeps_attributes_that_it_does_not_know(cloud: Cloud, collection: str, name: str) -> None:
    kind, path = collection[:-1], f"/identity/v3/{collection}"
    own = {"office": "12", "tree": {"a": [1]}}
    status, body = ask(cloud, "POST", path, {kind: {"name": name, **own, "password_hash": "x", "id": "mine"}})
    assert (status, own.items() <= body[kind].items()) == (201, True)
    assert body[kind]["id"] != "mine"
    assert "password_hash" not in body[kind]
    path = f"{path}/{body[kind]['id']}"
    ask(cloud, "PATCH", path, {kind: {"office": None, "desk": 3}})
    shown = ask(cloud, "GET", path)[1][kind]
    assert (shown["office"], shown["tree"], shown["desk"]) == (None, {"a": [1]}, 3)
    assert "extra" not in shown
    for bad in ({"big": "x" * 20_000}, {f"n{n}": n for n in range(200)}):
        assert ask(cloud, "PATCH", path, {kind: bad})[0] == 400
    if collection == "domains":
        ask(cloud, "PATCH", path, {kind: {"enabled": False}})
    assert ask(cloud, "DELETE", path)[0] == 204


def test_a_projects_tags(cloud: Cloud, name: str) -> None:
    made = ask(cloud, "POST", "/identity/v3/projects", {"project": {"name": name, "tags": ["a", "b"]}})[1]["project"]
    path = f"/identity/v3/projects/{made['id']}"
    assert ask(cloud, "GET", f"{path}/tags")[1]["tags"] == ["a", "b"]
    assert ask(cloud, "PUT", f"{path}/tags", {"tags": ["x", "y"]})[1]["tags"] == ["x", "y"]
    assert [ask(cloud, method, f"{path}/tags/x")[0] for method in ("GET", "DELETE", "GET", "DELETE")] == [
        204, 204, 404, 404,
    ]  # fmt: skip
    assert ask(cloud, "PUT", f"{path}/tags/z")[0] == 201
    assert ask(cloud, "GET", f"/identity/v3/projects?tags=y,z&name={name}")[1]["projects"][0]["tags"] == ["y", "z"]
    for bad in (
        {"tags": ["a,b"]},
        {"tags": ["a", "a"]},
        {"tags": "a"},
        {"tags": [1]},
        {"tags": [str(n) for n in range(81)]},
    ):
        assert ask(cloud, "PUT", f"{path}/tags", bad)[0] == 400, bad
    assert ask(cloud, "PUT", f"{path}/tags/q", user="demo")[0] == 403
    assert ask(cloud, "DELETE", f"{path}/tags")[0] == 204
    assert ask(cloud, "GET", path)[1]["project"]["tags"] == []
    assert ask(cloud, "DELETE", path)[0] == 204


def test_a_project_that_acts_as_a_domain_is_refused(cloud: Cloud, name: str) -> None:
    assert ask(cloud, "POST", "/identity/v3/projects", {"project": {"name": name, "is_domain": True}})[0] == 400


def test_a_role_of_a_domain_gives_what_it_implies_and_only_there(cloud: Cloud, name: str) -> None:
    """As in Keystone it is in no token, so whoever names it cannot give what a role of the cloud of that name gives."""
    identity = "/identity/v3"
    domain = ask(cloud, "POST", f"{identity}/domains", {"domain": {"name": name}})[1]["domain"]["id"]
    role = ask(cloud, "POST", f"{identity}/roles", {"role": {"name": name, "domain_id": domain}})[1]["role"]
    assert role["domain_id"] == domain
    shown = [ask(cloud, "GET", f"{identity}/roles{query}")[1]["roles"] for query in ("", f"?domain_id={domain}")]
    assert [role["id"] in {one["id"] for one in some} for some in shown] == [False, True]
    user = {"name": name, "domain_id": domain, "password": "p"}
    user_id = ask(cloud, "POST", f"{identity}/users", {"user": user})[1]["user"]["id"]
    inside = {"name": name, "domain_id": domain}
    project = ask(cloud, "POST", f"{identity}/projects", {"project": inside})[1]["project"]["id"]
    reader = ask(cloud, "GET", f"{identity}/roles?name=reader")[1]["roles"][0]["id"]
    assert ask(cloud, "PUT", f"{identity}/roles/{role['id']}/implies/{reader}")[0] == 201
    outside = ask(cloud, "GET", f"{identity}/projects?name=demo")[1]["projects"][0]["id"]
    grants = [f"{identity}/projects/{one}/users/{user_id}/roles/{role['id']}" for one in (outside, project)]
    assert [ask(cloud, "PUT", one)[0] for one in grants] == [403, 204]
    assert ask(cloud, "PUT", f"{identity}/system/users/{user_id}/roles/{role['id']}")[0] == 403
    login = {"identity": {"methods": ["password"], "password": {"user": {"id": user_id, "password": "p"}}},
             "scope": {"project": {"id": project}}}  # fmt: skip
    status, body, headers = cloud.request("POST", f"{identity}/auth/tokens", {"auth": login})
    assert (status, [one["name"] for one in body["token"]["roles"]]) == (201, ["reader"])
    mine = {"X-Auth-Token": headers["x-subject-token"]}
    assert cloud.request("GET", f"{BASE}/networks", None, mine)[0] == 200
    ask(cloud, "PATCH", f"{identity}/domains/{domain}", {"domain": {"enabled": False}})
    assert ask(cloud, "DELETE", f"{identity}/domains/{domain}")[0] == 204
    assert ask(cloud, "GET", f"{identity}/roles/{role['id']}")[0] == 404


@pytest.mark.parametrize("named_first", [True, False])
def test_a_chosen_address_is_none_that_is_named(demo: Any, little: SimpleNamespace, named_first: bool) -> None:
    wanted = [{"subnet_id": little.subnet.id, "ip_address": "192.168.7.10"}, {"subnet_id": little.subnet.id}]
    wanted = wanted if named_first else wanted[::-1]
    port = demo.network.create_port(network_id=little.network.id, fixed_ips=wanted)
    addresses = [one["ip_address"] for one in port.fixed_ips]
    assert addresses == (["192.168.7.10", "192.168.7.11"] if named_first else ["192.168.7.11", "192.168.7.10"])


def test_a_routers_gateway_keeps_its_address_and_gets_another(admin: Any, world: SimpleNamespace, name: str) -> None:
    router = admin.network.create_router(name=name, external_gateway_info={"network_id": world.external.id})
    (first,) = router.external_gateway_info["external_fixed_ips"]
    wanted = [first, {"subnet_id": first["subnet_id"]}]
    gateway = {"network_id": world.external.id, "external_fixed_ips": wanted}
    after = admin.network.update_router(router, external_gateway_info=gateway).external_gateway_info[
        "external_fixed_ips"
    ]
    assert (after[0], len({one["ip_address"] for one in after})) == (first, 2)
    admin.network.delete_router(router)


def test_without_hosts_an_amphora_is_replaced_by_a_report_and_not_by_the_request(tmp_path: Any) -> None:
    """So that a client which asks for its id after a failover finds it, as in Octavia, until another one serves."""
    url = f"sqlite:///{tmp_path}/cloud.sqlite"
    migrate.migrate(url)
    store, settings = Store(url), Settings(noop=True)
    instance = {"id": "i", "kind": "balancer", "owner_id": "lb", "host": "noop-a", "priority": 1, "leaving": False,
                "vrrp_address": "", "vrrp_port_id": "", "created_at": now()}  # fmt: skip

    def replace(tx: Tx) -> list[Any]:
        tx.insert(t.hosts, {"name": "noop-a", "alive": True})
        tx.insert(t.instances, instance)
        carry.replace(tx, ["i"], settings)
        return tx.column(sa.select(t.instances.c.leaving))

    assert store.write_now(replace) == [True]
    store.close()
