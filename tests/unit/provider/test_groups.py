"""Security groups for nodes: they converge, stay beside others, and leave nothing."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.provider.twin import CloudTwin

from vrata.provider.call import Call
from vrata.provider.groups import Group, Port, Rule, members_of, plan_group, plan_no_group, wanted_rules
from vrata.provider.model import ADDRESS, Desired, Listener, Member, Pool, Problem
from vrata.provider.plan import plan_ensure

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


class GroupTwin:
    """A group and the ports of three nodes, as Neutron has them."""

    def __init__(self) -> None:
        self.group: Group | None = None
        self.ports = {port.id: port for port in ports(1, 2, 3)}

    def apply(self, call: Call) -> None:
        if call.path == "/v2.0/security-groups":
            self.group = Group("g")
            return
        assert self.group
        rules, id_ = dict(self.group.rules), call.path.rpartition("/")[2]
        if call.resource == "ports":
            assert call.body
            self.ports[id_] = replace(self.ports[id_], groups=tuple(call.body["port"]["security_groups"]))
        elif call.method == "POST":
            assert call.body
            row = call.body["security_group_rule"]
            rule = Rule(row["protocol"], row["port_range_min"], row["remote_ip_prefix"])
            rules[rule] = f"{rule.protocol}-{rule.port}"
        else:
            rules = {rule: known for rule, known in rules.items() if known != id_}
        self.group = replace(self.group, rules=tuple(rules.items()))

    def lets_in(self, protocol: str, address: str, port: int) -> bool:
        guarded = any(address in one.addresses and "g" in one.groups for one in self.ports.values())
        return guarded and self.group is not None and Rule(protocol, port, CIDR) in dict(self.group.rules)


wishes = st.builds(
    lambda nodes, port, protocol: desired(*sorted(nodes), port=port, protocol=protocol),
    st.frozensets(st.sampled_from([1, 2, 3]), min_size=1),
    st.sampled_from([30080, 30999]),
    st.sampled_from(["TCP", "UDP"]),
)


@given(wishes, st.lists(st.tuples(wishes, st.booleans(), st.booleans()), min_size=1, max_size=3))
def test_no_member_is_asked_that_lets_nobody_in(first: Desired, then: list[tuple[Desired, bool, bool]]) -> None:
    """Members moved to another port, and rules did not, for as long as something else of the Service was blocked."""
    twin, guard = CloudTwin(), GroupTwin()

    def check() -> None:
        for row in twin.listeners.values():
            for one in twin.members.get(row["default_pool_id"] or "", ()):
                protocol = "udp" if row["protocol"] == "UDP" else "tcp"
                assert guard.lets_in(protocol, one["address"], one["protocol_port"])

    for wanted, blocked, busy in [(first, False, False), *then]:
        problems = (Problem("spec.loadBalancerIP", "x", "y", (ADDRESS,)),) if blocked else ()
        wish = replace(wanted, problems=problems)
        for _ in range(12):
            world = twin.world(wish)
            used = None if busy and twin.calls[-1:] else members_of(world.balancer)
            for _ in range(2):
                for call in plan_group("g", wish, CIDR, guard.group, guard.ports.values(), used):
                    guard.apply(call)
                    check()
            plan = plan_ensure(wish, world)
            for call in plan.calls:
                twin.apply(call)
                check()
            twin.settle()
        for call in plan_group(
            "g", wish, CIDR, guard.group, guard.ports.values(), members_of(twin.world(wish).balancer)
        ):
            guard.apply(call)
            check()
        assert guard.group
        assert dict(guard.group.rules).keys() == wanted_rules(wanted, CIDR)
