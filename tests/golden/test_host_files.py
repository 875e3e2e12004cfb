"""Every file the host writes is read by the daemon it is for, and compared with what it was."""

import os
import re
import subprocess
from pathlib import Path

import msgspec
import pytest
from tests.support.everything import certificate, everything
from tests.support.haproxy import BINARIES, present
from tests.support.instances import balancer, gateway
from tests.support.pki import issue

from vrata.base.errors import VrataError
from vrata.base.wire import Firewall, FirewallRule, Listener, Member, Pool
from vrata.haproxy.process import HaproxyProcess
from vrata.haproxy.render import render_config
from vrata.host import adverts
from vrata.host.firewall import compile_firewall
from vrata.host.forwarding import compile_forwarding
from vrata.host.handover import compile_handover
from vrata.host.pair_guard import compile_pair_guard
from vrata.host.render import render_conntrackd, render_haproxy, render_nat, render_router, render_routes, route_line
from vrata.host.rules import Table, render_change
from vrata.vrrp.render import render_router as render_keepalived

FILES = Path(__file__).parent / "files"
OTHER_KEY = issue("www.example.org").cert_pem + issue("www.example.org").key_pem


def same_as_before(name: str, text: str) -> None:
    """Compare with the kept file; `VRATA_GOLDEN=write` keeps the new text instead."""
    path = FILES / name
    if os.environ.get("VRATA_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


async def test_haproxy_reads_every_branch_of_its_configuration(tmp_path: Path) -> None:
    text = render_config(render_haproxy(balancer(), "/run/vrata", user_id=1_400_000_001))
    same_as_before("haproxy.cfg", text)
    await HaproxyProcess(tmp_path).check(text)


async def test_haproxy_reads_tls_l7_and_the_exporter(tmp_path: Path) -> None:
    config = render_haproxy(everything(), "/run/vrata", open_files=20_000)
    same_as_before("haproxy-tls.cfg", render_config(config))
    here = render_haproxy(everything(), str(tmp_path))
    await HaproxyProcess(tmp_path).check(render_config(here), here.files)
    assert list(tmp_path.iterdir()) == []  # private keys included


@pytest.mark.parametrize("binary", BINARIES.values(), ids=list(BINARIES))
@pytest.mark.parametrize(
    ("pem", "reason"),
    [("-----BEGIN CERTIFICATE-----\nx", ""), (OTHER_KEY, "inconsistencies between private key and certificate.*")],
    ids=["no certificate", "another's key"],
)
async def test_haproxy_names_the_certificate_that_it_can_not_read(
    tmp_path: Path, pem: str, reason: str, binary: str
) -> None:
    listener = everything().listeners[1]
    assert listener.tls
    broken = msgspec.structs.replace(certificate("www.example.org", "secret-7"), pem=pem)
    tls = msgspec.structs.replace(listener.tls, default_certificate=broken)
    desired = balancer(listeners=(msgspec.structs.replace(listener, tls=tls),), pools=everything().pools)
    config = render_haproxy(desired, str(tmp_path))
    with pytest.raises(VrataError, match=f"{reason}cert of secret-7"):
        await HaproxyProcess(tmp_path, binary=present(binary)).check(render_config(config), config.files)


async def test_haproxy_refuses_a_backend_that_does_not_exist(tmp_path: Path) -> None:
    text = render_config(render_haproxy(balancer(), "/run/vrata")).replace("\nbackend pool-tls:tls", "\nbackend x")
    with pytest.raises(VrataError, match=r"HAProxy refuses the configuration.*pool-tls:tls"):
        await HaproxyProcess(tmp_path).check(text)


def test_keepalived_reads_its_configuration(tmp_path: Path) -> None:
    router = render_router(balancer(), "/run/vrata/notify.fifo", "/run/vrata/fault", "/run/vrata/alive.sh")
    text = render_keepalived(router)
    same_as_before("keepalived.conf", text)
    # Outside an instance's namespace its interfaces are missing; the loopback stands in for the external one.
    path = tmp_path / "keepalived.conf"
    path.write_text(text.replace("dev external", "dev lo"))
    said = subprocess.run(["keepalived", "-t", "-l", "-f", path], capture_output=True, text=True, check=False).stderr
    assert "Unknown keyword" not in said
    assert "insecure" not in said
    for program in re.findall(r'script "(\S+)', text):  # keepalived 2.3 disables a script that is reached by a link
        assert Path(program).resolve() == Path(program)
    path.write_text(text.replace("virtual_router_id 7", "virtual_router_id 700"))
    refused = subprocess.run(["keepalived", "-t", "-l", "-f", path], capture_output=True, text=True, check=False)
    assert refused.returncode != 0


def test_nftables_reads_a_gateways_rules() -> None:
    text = render_nat(gateway())
    same_as_before("gateway.nft", text)
    for desired in (gateway(), gateway(floating=(), snat=None)):
        checked = subprocess.run(
            ["nft", "-c", "-f", "-"], input=render_nat(desired), capture_output=True, text=True, check=False
        )
        assert checked.stderr == ""
    broken = text.replace("policy drop", "policy fly")
    assert subprocess.run(
        ["nft", "-c", "-f", "-"], input=broken, capture_output=True, text=True, check=False
    ).returncode


def test_nftables_reads_kernel_listeners_and_firewalls() -> None:
    rules = (
        FirewallRule(ethertype="IPv4", protocol="udp", port_range_min=53, port_range_max=54, remotes=("10.0.0.0/8",)),
        FirewallRule(ethertype="IPv4", protocol="icmp", port_range_min=8, port_range_max=0),
        FirewallRule(ethertype="IPv6", protocol="ipv6-icmp", port_range_min=128),
        FirewallRule(ethertype="IPv4", protocol="132"),
        FirewallRule(ethertype="IPv6"),
    )
    legs = balancer().legs
    members = (
        Member(id="m1", address="10.10.0.21", protocol_port=53, weight=3),
        Member(id="m2", address="10.10.0.22", protocol_port=53),
        Member(id="m3", address="fd00::23", protocol_port=53),
    )
    keeps = Pool(
        id="p",
        protocol="UDP",
        lb_algorithm="ROUND_ROBIN",
        persistence_type="SOURCE_IP",
        persistence_timeout=60,
        persistence_granularity="255.255.255.0",
        members=members,
    )
    desired = balancer(
        legs=(msgspec.structs.replace(legs[0], firewall=Firewall(rules=rules)), legs[1]),
        listeners=(
            Listener(
                id="dns",
                protocol="UDP",
                protocol_port=53,
                default_pool_id="p",
                connection_limit=1000,
                allowed_cidrs=("10.0.0.0/8",),
            ),
            Listener(id="ntp", protocol="UDP", protocol_port=123, default_pool_id="q"),
        ),
        pools=(keeps, Pool(id="q", protocol="UDP", lb_algorithm="SOURCE_IP", members=members)),
    )
    tables = (compile_firewall(desired), compile_forwarding(desired), compile_pair_guard(desired))
    text = "".join(render_change(None, table) for table in tables)
    same_as_before("balancer.nft", text)
    checked = subprocess.run(["nft", "-c", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    assert checked.stderr == ""
    guarded = gateway(floating=(msgspec.structs.replace(gateway().floating[0], firewall=Firewall(rules=rules[:2])),))
    checked = subprocess.run(
        ["nft", "-c", "-f", "-"], input=render_nat(guarded), capture_output=True, text=True, check=False
    )
    assert checked.stderr == ""


def test_conntrackd_and_routes_are_as_before() -> None:
    config = render_conntrackd(gateway(), "/run/vrata")
    assert config
    same_as_before("conntrackd.conf", config)
    routes, rules = render_routes(balancer())
    same_as_before(
        "routes.txt",
        "\n".join([*map(route_line, routes), *(f"rule {source} {table}" for source, table in rules)]) + "\n",
    )


@pytest.mark.parametrize("peer", ["10.10.0.12", "2001:db8::12"])
def test_nftables_reads_the_rules_of_a_handover(peer: str) -> None:
    desired = balancer()
    vrrp = msgspec.structs.replace(desired.vrrp, peers=(peer,), peer_macs=("fa:16:3e:00:00:02",))
    tables = (*compile_handover(msgspec.structs.replace(desired, vrrp=vrrp), (80, 443)), adverts.table())
    text = "".join(render_change(Table(table.name), table) for table in tables)
    if ":" not in peer:
        same_as_before("handover.nft", text)
    script = "ip link add tenant type veth && nft -f -"  # the rules name the interface they send through
    checked = subprocess.run(
        ["unshare", "-n", "sh", "-c", script], input=text, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
