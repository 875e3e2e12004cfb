"""From one configuration to another: what can be done at run time is, the rest is a reload."""

from dataclasses import replace

from vrata.haproxy.model import Backend, Balance, Config, Mode, Server
from vrata.haproxy.plan import AddServer, AtRunTime, Reload, RemoveServer, SetWeight, Unchanged, plan_transition

ONE, TWO = Server("m1", "192.0.2.1", 80), Server("m2", "192.0.2.2", 80)


def config(*servers: Server, **changes: object) -> Config:
    backend = replace(Backend("b", Mode.HTTP, Balance.ROUNDROBIN, servers), **changes)  # type: ignore[arg-type]
    return Config(stats_socket="/s", hard_stop_after_ms=1, backends=(backend,))


def test_equal_configurations_need_nothing() -> None:
    assert plan_transition(config(ONE), config(ONE)) == Unchanged()


def test_servers_are_added_before_others_are_removed() -> None:
    transition = plan_transition(config(ONE), config(TWO))
    assert isinstance(transition, AtRunTime)
    assert transition.changes == (AddServer(config(TWO).backends[0], TWO, ""), RemoveServer("b", "m1"))


def test_a_weight_is_set_in_place() -> None:
    transition = plan_transition(config(ONE), config(replace(ONE, weight=0)))
    assert isinstance(transition, AtRunTime)
    assert transition.changes == (SetWeight("b", "m1", 0),)


def test_what_the_runtime_socket_can_not_do_is_a_reload_with_its_reason() -> None:
    assert plan_transition(None, config(ONE)) == Reload("what runs is not known")
    assert isinstance(plan_transition(config(ONE), config(replace(ONE, check_port=81))), Reload)
    assert isinstance(plan_transition(config(ONE), config(ONE, server_timeout_ms=1)), Reload)
    assert plan_transition(config(ONE), Config("/s", 1)) == Reload("pools came or went")
