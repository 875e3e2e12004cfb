"""From one configuration to another: what can be done at run time is, the rest is a reload."""

from dataclasses import replace

from vrata.haproxy.model import Backend, Balance, Config, FileKind, Mode, Server, TlsFile
from vrata.haproxy.plan import (
    MOST_BYTES,
    AddServer,
    AtRunTime,
    Reload,
    RemoveServer,
    ReplaceFile,
    SetAddress,
    SetWeight,
    Unchanged,
    plan_transition,
)

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


def with_file(content: str, kind: FileKind = FileKind.CERTIFICATE) -> Config:
    return replace(config(ONE), tls_dir="/t", files=(TlsFile("cert-00000000.pem", kind, "cert of x", content),))


def test_an_address_is_set_in_place_and_with_another_weight_too() -> None:
    moved = replace(ONE, address="192.0.2.9", port=81, weight=7)
    transition = plan_transition(config(ONE), config(moved))
    assert isinstance(transition, AtRunTime)
    assert transition.changes == (SetAddress("b", "m1", "192.0.2.9", 81), SetWeight("b", "m1", 7))


def test_a_renewed_certificate_is_given_to_the_running_process() -> None:
    transition = plan_transition(with_file("old"), with_file("new"))
    assert isinstance(transition, AtRunTime)
    assert transition.changes == (ReplaceFile("/t/cert-00000000.pem", with_file("new").files[0]),)


def test_what_is_too_big_for_one_command_or_another_list_is_a_reload_that_names_it() -> None:
    big = plan_transition(with_file("old"), with_file("n" * (MOST_BYTES + 1)))
    assert big == Reload("cert of x is too big for the runtime socket")
    other = plan_transition(with_file("a", FileKind.LIST), with_file("b", FileKind.LIST))
    assert other == Reload("cert of x: certificates came or went")
    assert isinstance(plan_transition(config(ONE), with_file("new")), Reload)


def test_secrets_are_not_shown_with_a_configuration() -> None:
    assert "PRIVATE" not in repr(with_file("PRIVATE"))
