"""Security groups for nodes: they converge, stay beside others, and leave nothing."""

from dataclasses import replace

from vrata.provider.call import Call
from vrata.provider.groups import Group, Port, Rule, plan_group, plan_no_group, wanted_rules
from vrata.provider.model import Desired, Listener, Member, Pool

CIDR = "10.10.0.0/24"


def desired(*nodes: int, port: int = 30080, protocol: str = "TCP") -> Desired:
    members = frozenset(
        Member(f"worker-{n}", f"10.10.0.{n}", port, 31000 if protocol == "TCP" else None) for n in nodes
    )
    return Desired(
        "n", "d", "f", internal=False, listeners=(Listener(protocol, 80, Pool(protocol, "ROUND_ROBIN", members)),)
    )


def ports(*nodes: int, groups: tuple[str, ...] = ("other",)) -> list[Port]:
    return [Port(f"p{n}", frozenset({f"10.10.0.{n}"}), groups) for n in nodes]


def brief(calls: list[Call]) -> list[tuple[str, str]]:
    return [(call.method, call.path.removeprefix("/v2.0/")) for call in calls]


def test_a_group_comes_first_then_rules_then_ports() -> None:
    assert brief(plan_group("g", desired(1), CIDR, None, ports(1))) == [("POST", "security-groups")]
    calls = plan_group("g", desired(1, 2), CIDR, Group("g"), ports(1, 2, 9))
    assert brief(calls) == [
        ("POST", "security-group-rules"), ("POST", "security-group-rules"), ("PUT", "ports/p1"), ("PUT", "ports/p2"),
    ]  # fmt: skip
    assert calls[2].body == {"port": {"security_groups": ["other", "g"]}}


def test_nothing_is_left_to_do_when_all_is_there() -> None:
    rules = ((Rule("tcp", 30080, CIDR), "a"), (Rule("tcp", 31000, CIDR), "b"))
    assert plan_group("g", desired(1), CIDR, Group("g", rules), ports(1, groups=("other", "g"))) == []


def test_a_node_that_leaves_and_a_port_that_goes_are_let_go() -> None:
    rules = ((Rule("tcp", 30080, CIDR), "a"), (Rule("tcp", 31000, CIDR), "b"))
    calls = plan_group("g", desired(1, protocol="UDP"), CIDR, Group("g", rules), ports(1, 2, groups=("g",)))
    assert brief(calls) == [
        ("POST", "security-group-rules"), ("PUT", "ports/p2"),
        ("DELETE", "security-group-rules/a"), ("DELETE", "security-group-rules/b"),
    ]  # fmt: skip


def test_a_port_without_port_security_takes_no_group() -> None:
    [port] = ports(1)
    calls = plan_group("g", desired(1), CIDR, Group("g"), [replace(port, guarded=False)])
    assert {path for _, path in brief(calls)} == {"security-group-rules"}


def test_clients_that_reach_members_themselves_are_let_in() -> None:
    open_to = frozenset({"192.0.2.0/24"})
    rules = wanted_rules(replace(desired(1, protocol="UDP"), clients=open_to), CIDR)
    assert rules == {Rule("udp", 30080, CIDR), Rule("udp", 30080, "192.0.2.0/24")}


def test_removing_takes_it_off_every_port_first() -> None:
    calls = plan_no_group(Group("g"), ports(1, 2, groups=("other", "g")))
    assert brief(calls) == [("PUT", "ports/p1"), ("PUT", "ports/p2"), ("DELETE", "security-groups/g")]
    assert calls[0].body == {"port": {"security_groups": ["other"]}}
