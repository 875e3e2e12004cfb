"""Every command of the OpenStack CLI for network and identity that this cloud has a meaning for, run once.

A step is a command and what must be in its answer: fields of an object, or a word somewhere in a list or text.
The steps of a table build on each other; `{name}` is an id that an earlier step kept.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.cloud import Cloud
from tests.support.openstack_cli import OpenStackCli

Step = tuple[str, Any]

NETWORK: list[Step] = [
    ("extension list --network", "standard-attr-tag"),
    ("extension show extraroute-atomic", {"alias": "extraroute-atomic"}),
    ("availability zone list --network", []),
    ("network agent list", []),
    ("network create --description d --mtu 1400 --tag a c-net", {"mtu": 1400, "tags": ["a"], "description": "d"}),
    ("network list --tags a", "c-net"),
    ("network list --any-tags a,b --name c-net", "c-net"),
    ("network set --name c-net2 --tag b c-net", ""),
    ("network unset --tag a c-net2", ""),
    ("network show c-net2", {"tags": ["b"], "status": "ACTIVE", "subnets": []}),
    ("subnet pool create --pool-prefix 10.40.0.0/16 --default-prefix-length 24 c-pool",
     {"default_prefixlen": 24, "prefixes": ["10.40.0.0/16"]}),
    ("subnet pool set --pool-prefix 10.41.0.0/16 --tag t c-pool", ""),
    ("subnet pool unset --tag t c-pool", ""),
    ("subnet pool show c-pool", {"prefixes": ["10.40.0.0/15"], "tags": []}),
    ("subnet pool list", "c-pool"),
    ("subnet create --network c-net2 --subnet-pool c-pool c-sub", {"cidr": "10.40.0.0/24", "gateway_ip": "10.40.0.1"}),
    (("subnet create --network c-net2 --ip-version 6 --ipv6-ra-mode slaac --ipv6-address-mode slaac "
     "--subnet-range 2001:db8:40::/64 c-six"), {"ipv6_ra_mode": "slaac", "cidr": "2001:db8:40::/64"}),
    ("subnet set --dns-nameserver 192.0.2.53 --host-route destination=10.9.0.0/16,gateway=10.40.0.9 c-sub", ""),
    ("subnet unset --host-route destination=10.9.0.0/16,gateway=10.40.0.9 c-sub", ""),
    ("subnet show c-sub", {"dns_nameservers": ["192.0.2.53"], "host_routes": []}),
    ("subnet list --network c-net2 --ip-version 6", "c-six"),
    ("security group create --description g c-group", {"description": "g"}),
    ("security group rule create --protocol tcp --dst-port 80:90 --remote-ip 10.0.0.0/8 c-group",
     {"port_range_min": 80, "port_range_max": 90, "keep": "rule"}),
    ("security group rule list c-group", "80:90"),
    ("security group rule show {rule}", {"protocol": "tcp"}),
    ("security group set --name c-group2 --tag x c-group", ""),
    ("security group unset --tag x c-group2", ""),
    ("security group show c-group2", {"tags": []}),
    ("security group list", "c-group2"),
    (("port create --network c-net2 --fixed-ip subnet=c-sub,ip-address=10.40.0.50 --security-group c-group2 "
     "--allowed-address ip-address=10.40.0.99 --tag p c-port"), {"name": "c-port", "tags": ["p"], "keep": "port"}),
    ("port set --description hello --device here --device-owner compute:x c-port", ""),
    ("port unset --security-group c-group2 --allowed-address ip-address=10.40.0.99,mac-address={mac} c-port", ""),
    ("port show c-port", {"description": "hello", "security_group_ids": [], "allowed_address_pairs": []}),
    ("port list --fixed-ip ip-address=10.40.0.50", "c-port"),
    ("port list --device-owner compute:x --tags p", "c-port"),
    ("router create c-router", {"external_gateway_info": None}),
    ("router add subnet c-router c-sub", ""),
    ("router set --external-gateway external c-router", ""),
    ("router add route --route destination=10.77.0.0/16,gateway=10.40.0.7 c-router",
     {"routes": [{"destination": "10.77.0.0/16", "nexthop": "10.40.0.7"}]}),
    ("router set --route destination=10.78.0.0/16,gateway=10.40.0.8 c-router", ""),
    ("router show c-router", {"routes": [{"destination": "10.78.0.0/16", "nexthop": "10.40.0.8"},
                                         {"destination": "10.77.0.0/16", "nexthop": "10.40.0.7"}]}),
    ("router remove route --route destination=10.77.0.0/16,gateway=10.40.0.7 c-router", ""),
    ("router unset --route destination=10.78.0.0/16,gateway=10.40.0.8 c-router", ""),
    ("router list", "c-router"),
    ("floating ip create --port c-port --tag f external", {"fixed_ip_address": "10.40.0.50", "keep": "fip"}),
    ("floating ip list --port c-port", "10.40.0.50"),
    ("floating ip unset --port {fip}", ""),
    ("floating ip set --port c-port {fip}", ""),
    ("floating ip show {fip}", {"status": "ACTIVE", "tags": ["f"]}),
    ("floating ip delete {fip}", ""),
    ("router unset --external-gateway c-router", ""),
    ("router remove subnet c-router c-sub", ""),
    ("port create --network c-net2 --fixed-ip subnet=c-sub c-leg", {"name": "c-leg"}),
    ("router add port c-router c-leg", ""),
    ("router remove port c-router c-leg", ""),
    ("router delete c-router", ""),
    ("port delete c-port", ""),
    ("security group rule delete {rule}", ""),
    ("security group delete c-group2", ""),
    ("subnet delete c-six", ""),
    ("subnet delete c-sub", ""),
    ("subnet pool delete c-pool", ""),
    ("network delete c-net2", ""),
]  # fmt: skip

IDENTITY: list[Step] = [
    ("versions show --service identity", "3.14"),
    ("catalog list", "key-manager"),
    ("catalog show network", {"type": "network"}),
    ("service list", "octavia"),
    ("service show neutron", {"type": "network"}),
    ("endpoint list --service network", "network"),
    ("endpoint show vrata-network-public", {"interface": "public"}),
    ("region list", "RegionOne"),
    ("region show RegionOne", {"region": "RegionOne"}),
    ("group list", []),
    ("domain create --description d c-domain", {"enabled": True, "description": "d"}),
    ("domain list", "c-domain"),
    ("domain set --description e c-domain", ""),
    ("domain show c-domain", {"description": "e"}),
    ("project create --domain c-domain --tag x c-project", {"tags": ["x"], "keep": "project"}),
    ("project set --description about --domain c-domain c-project", ""),
    ("project show --domain c-domain c-project", {"description": "about"}),
    ("project list --domain c-domain", "c-project"),
    ("user create --domain c-domain --password first --email a@b.example c-user", {"email": "a@b.example", "keep": "u"}),
    ("user set --description someone --domain c-domain c-user", ""),
    ("user show --domain c-domain c-user", {"description": "someone"}),
    ("user list --domain c-domain", "c-user"),
    ("role create c-role", {"name": "c-role"}),
    ("role set --description r c-role", ""),
    ("role show c-role", {"description": "r"}),
    ("role list", "member"),
    ("implied role create --implied-role reader c-role", ""),
    ("implied role list", "c-role"),
    ("implied role delete --implied-role reader c-role", ""),
    ("role add --user {u} --project {project} c-role", ""),
    ("role assignment list --user {u} --names", "c-role"),
    ("role assignment list --user {u} --effective", "{project}"),
    ("user list --project {project}", "c-user"),
    ("project list --user {u}", "c-project"),
    ("role remove --user {u} --project {project} c-role", ""),
    ("role add --user {u} --system all reader", ""),
    ("role assignment list --system all --names", "c-user"),
    ("role remove --user {u} --system all reader", ""),
    ("quota show --network {project}", "security_groups"),
    ("quota set --networks 3 --ports 4 {project}", ""),
    ("quota set --check-limit --routers 0 {project}", ""),
    ("quota show --network {project}", "'Limit': 4"),
    ("quota show --network --default {project}", "'Limit': -1"),
    ("quota show --network --usage {project}", "'In Use': 0"),
    ("quota list --network", "{project}"),
    ("quota delete --network {project}", ""),
    ("role delete c-role", ""),
    ("user delete {u}", ""),
    ("project delete {project}", ""),
    ("domain set --disable c-domain", ""),
    ("domain delete c-domain", ""),
]  # fmt: skip

MINE: list[Step] = [
    ("token issue", {"project_id": "{demo}"}),
    ("network list --external", "external"),
    ("project list --my-projects", "demo"),
    ("application credential create --role reader c-key", {"Name": "c-key", "Unrestricted": False}),
    ("application credential list", "c-key"),
    ("application credential show c-key", {"Name": "c-key"}),
    ("application credential delete c-key", ""),
    ("access rule list", []),
    ("quota show", "'Resource': 'floating_ips'"),
    ("security group list", "default"),
]  # fmt: skip


@pytest.fixture(params=["admin", "demo"])
def cli(request: pytest.FixtureRequest, cloud: Cloud, world: SimpleNamespace) -> Iterator[OpenStackCli]:
    assert world.router is not None
    shell = OpenStackCli(cloud, request.param)
    yield shell
    shell.close()


def play(cli: OpenStackCli, steps: list[Step], known: dict[str, str]) -> None:
    for command, expected in steps:
        for name, value in known.items():
            command = command.replace(f"{{{name}}}", value)
            expected = expected.replace(f"{{{name}}}", value) if isinstance(expected, str) else expected
        answer: Any = cli.text(command) if expected == "" else cli.json(command)
        if isinstance(expected, dict):
            for key, value in expected.items():
                if key == "keep":
                    known[value] = answer["id"]
                    known["mac"] = answer.get("mac_address", "")
                else:
                    wanted = known.get(str(value).strip("{}"), value)
                    assert answer[key] == wanted, (command, answer)
        elif isinstance(expected, str):
            assert expected in str(answer), (command, answer)
        else:
            assert answer == expected, command


@pytest.mark.parametrize(
    ("cloud", "cli", "steps"),
    [("sqlite", "admin", NETWORK), ("sqlite", "admin", IDENTITY), ("sqlite", "demo", MINE)],
    indirect=["cloud", "cli"], ids=["network", "identity", "mine"],
)  # fmt: skip
def test_the_openstack_cli_finds_what_it_expects(cli: OpenStackCli, demo: Any, steps: list[Step]) -> None:
    play(cli, steps, {"demo": demo.current_project_id})
