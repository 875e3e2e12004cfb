"""Every command that python-octaviaclient has is run once against a cloud, in an order that makes sense."""

from collections.abc import Iterator
from importlib.metadata import entry_points
from types import SimpleNamespace

import pytest
from tests.support.cloud import Cloud, wait_for
from tests.support.openstack_cli import OpenStackCli

GROUP = "openstack.load_balancer.v2"


class Shell:
    """`openstack loadbalancer …` as an administrator; remembers which commands ran."""

    def __init__(self, cli: OpenStackCli) -> None:
        self.cli = cli
        self.names = sorted((one.name.replace("_", " ") for one in entry_points(group=GROUP)), key=len, reverse=True)
        self.ran: set[str] = set()

    def __call__(self, command: str) -> str:
        """Run a command; AssertionError with what it said if it fails."""
        text = f"loadbalancer {command}"
        self.ran.add(next(name for name in self.names if text == name or text.startswith(name + " ")))
        if " create " in text and "flavor" not in text and "availabilityzone" not in text:
            text += " --wait" if "quota" not in text else ""
        return self.cli.text(text)

    def value(self, command: str, column: str) -> str:
        """One column of what a command shows."""
        return self(f"{command} -f value -c {column}").strip()

    def rest(self, balancer: str) -> None:
        """Wait until the load balancer may be changed again."""
        wait_for(lambda: self.value(f"show {balancer}", "provisioning_status") == "ACTIVE")


@pytest.fixture
def shell(cloud: Cloud, world: SimpleNamespace) -> Iterator[Shell]:
    _ = world
    cli = OpenStackCli(cloud, "admin")
    yield Shell(cli)
    cli.close()


@pytest.mark.parametrize("cloud", ["sqlite"], indirect=True)  # the client does not see which database it is
def test_every_command_of_the_client_works(shell: Shell, world: SimpleNamespace, name: str) -> None:
    lb, listener, pool, policy = (f"{name}-{kind}" for kind in ("lb", "http", "pool", "policy"))
    _flavors_and_zones(shell, name)
    assert shell.value(f"create --name {lb} --vip-subnet-id {world.subnet.id}", "name") == lb
    shell(f"set --description words {lb}")
    shell.rest(lb)
    shell(f"unset --description {lb}")
    shell.rest(lb)
    assert lb in shell("list -f value -c name")
    shell(f"listener create --name {listener} --protocol HTTP --protocol-port 80 {lb}")
    shell(f"listener set --connection-limit 7 {listener} --wait")
    assert shell.value(f"listener show {listener}", "connection_limit") == "7"
    shell(f"listener unset --connection-limit {listener} --wait")
    assert listener in shell("listener list -f value -c name")
    assert shell.value(f"listener stats show {listener}", "active_connections") == "0"
    shell(f"pool create --name {pool} --loadbalancer {lb} --protocol HTTP --lb-algorithm ROUND_ROBIN")
    shell(f"pool set --lb-algorithm SOURCE_IP {pool} --wait")
    assert shell.value(f"pool show {pool}", "lb_algorithm") == "SOURCE_IP"
    shell(f"pool unset --name {pool} --wait")
    pool = shell.value(f"pool list --loadbalancer {lb}", "id")
    _members_and_monitor(shell, pool)
    _policies(shell, listener, pool, policy)
    assert "statuses" in shell(f"status show {lb}") or "loadbalancer" in shell(f"status show {lb}")
    assert shell.value(f"stats show {lb}", "total_connections") == "0"
    shell(f"pool delete {pool} --wait")
    shell(f"listener delete {listener} --wait")
    _amphorae_and_quotas(shell, lb)
    shell(f"delete --cascade {lb} --wait")
    assert lb not in shell("list -f value -c name")
    missing = {one for one in shell.names if one not in shell.ran}
    assert missing == set()


def _flavors_and_zones(shell: Shell, name: str) -> None:
    assert "amphora" in shell("provider list -f value -c name")
    assert "loadbalancer_topology" in shell("provider capability list amphora -f value -c name")
    for kind, data in (("flavor", "flavor-data"), ("availabilityzone", "availability-zone-data")):
        profile, thing, key = f"{name}-{kind}-profile", f"{name}-{kind}", f"{kind}profile"
        text = '{"loadbalancer_topology":"SINGLE"}' if kind == "flavor" else '{"compute_zone":"a"}'
        shell(f"{key} create --name {profile} --provider amphora --{data} {text}")
        shell(f"{key} set --name {profile}-2 {profile}")
        assert f"{profile}-2" in shell(f"{key} list -f value -c name")
        made = shell.value(f"{key} show {profile}-2", "id")
        option = "--flavorprofile" if kind == "flavor" else "--availabilityzoneprofile"
        shell(f"{kind} create --name {thing} {option} {made} --enable")
        shell(f"{kind} set --description words {thing}")
        assert shell.value(f"{kind} show {thing}", "description") == "words"
        shell(f"{kind} unset --description {thing}")
        assert thing in shell(f"{kind} list -f value -c name")
        shell(f"{kind} delete {thing}")
        shell(f"{key} delete {profile}-2")


def _members_and_monitor(shell: Shell, pool: str) -> None:
    shell(f"member create --name m --address 10.10.0.20 --protocol-port 80 {pool}")
    member = shell.value(f"member list {pool}", "id")
    shell(f"member set --weight 9 {pool} {member} --wait")
    assert shell.value(f"member show {pool} {member}", "weight") == "9"
    shell(f"member unset --weight {pool} {member} --wait")
    shell(f"member delete {pool} {member} --wait")
    shell(f"healthmonitor create --name hm --type HTTP --delay 5 --timeout 2 --max-retries 1 {pool}")
    monitor = shell.value(f"pool show {pool}", "healthmonitor_id")
    assert monitor in shell("healthmonitor list -f value -c id")
    shell(f"healthmonitor set --url-path /ready {monitor} --wait")
    assert shell.value(f"healthmonitor show {monitor}", "url_path") == "/ready"
    shell(f"healthmonitor unset --url-path {monitor} --wait")
    shell(f"healthmonitor delete {monitor} --wait")


def _policies(shell: Shell, listener: str, pool: str, policy: str) -> None:
    shell(f"l7policy create --name {policy} --action REDIRECT_TO_POOL --redirect-pool {pool} {listener}")
    shell(f"l7policy set --position 1 {policy} --wait")
    shell(f"l7policy unset --description {policy}")
    assert shell.value(f"l7policy show {policy}", "action") == "REDIRECT_TO_POOL"
    assert policy in shell("l7policy list -f value -c name")
    wait_for(lambda: shell.value(f"l7policy show {policy}", "provisioning_status") == "ACTIVE")
    shell(f"l7rule create --type PATH --compare-type STARTS_WITH --value /a {policy}")
    rule = shell.value(f"l7rule list {policy}", "id")
    shell(f"l7rule set --value /b {policy} {rule} --wait")
    assert shell.value(f"l7rule show {policy} {rule}", "value") == "/b"
    shell(f"l7rule unset --invert {policy} {rule} --wait")
    shell(f"l7rule delete {policy} {rule} --wait")
    shell(f"l7policy delete {policy} --wait")


def _amphorae_and_quotas(shell: Shell, lb: str) -> None:
    balancer = shell.value(f"show {lb}", "id")
    amphora = shell.value(f"amphora list --loadbalancer {balancer}", "id").split()[0]
    assert shell.value(f"amphora show {amphora}", "loadbalancer_id") == balancer
    shell.ran |= {"loadbalancer amphora stats show", "loadbalancer amphora delete"}
    status, _, said = shell.cli.run("loadbalancer", "amphora", "stats", "show", amphora)
    assert status != 0, "nobody has counted anything yet"
    assert "not found" in said
    status, _, said = shell.cli.run("loadbalancer", "amphora", "delete", amphora)
    assert status != 0
    assert "in use" in said
    shell(f"amphora configure {amphora}")
    shell(f"amphora failover {amphora} --wait")
    shell(f"failover {lb} --wait")
    assert shell.value("quota defaults show", "pool") in {"-1", "None"}
    project = shell.value(f"show {lb}", "project_id")
    shell(f"quota set --pool 500 {project}")
    assert shell.value(f"quota show {project}", "pool") == "500"
    assert project in shell("quota list -f value")
    shell(f"quota unset --pool {project}")
    shell(f"quota reset {project}")
