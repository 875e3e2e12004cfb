"""keepalived's configuration and the good-bye packet."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.instances import HOSTILE, balancer

from vrata.base.errors import InvalidInput
from vrata.host.render import render_router
from vrata.vrrp.model import Router, VirtualAddress
from vrata.vrrp.packet import encode_goodbye
from vrata.vrrp.process import parse_notification
from vrata.vrrp.render import render_router as render


def router() -> Router:
    return render_router(balancer(), "/run/fifo", "/run/fault", "/run/alive.sh")


def block(text: str, name: str) -> list[str]:
    lines = text.split(f"  {name} {{\n")[1].split("  }\n", maxsplit=1)[0]
    return [line.split()[0] for line in lines.splitlines()]


def test_only_one_address_is_advertised_so_that_lists_may_differ_for_a_while() -> None:
    text = render(router())
    assert block(text, "virtual_ipaddress") == ["10.10.0.100/32"]
    assert block(text, "virtual_ipaddress_excluded") == ["fd00::100/128", "203.0.113.20/32"]


@given(st.sampled_from(HOSTILE) | st.text(max_size=30), st.sampled_from(["name", "interface", "source", "notify_fifo"]))
def test_no_string_adds_a_line(value: str, field: str) -> None:
    whole = render(router())
    try:
        text = render(replace(router(), **{field: value}))  # type: ignore[arg-type]
    except InvalidInput:
        return
    assert abs(len(text.splitlines()) - len(whole.splitlines())) <= 3  # addresses move between the two blocks
    assert text.count("{") == text.count("}")


def test_a_bad_virtual_address_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"leg\.virtual"):
        render(replace(router(), virtual=(VirtualAddress("10.0.0.1 dev lo", "tenant"),)))


def test_the_goodbye_has_priority_zero_and_a_checksum_that_adds_up() -> None:
    message = encode_goodbye(7, 100, "10.10.0.11", "10.10.0.12", ("10.10.0.100",))
    assert message[:6] == bytes([0x31, 7, 0, 1, 0, 10])
    pseudo = bytes([10, 10, 0, 11, 10, 10, 0, 12, 0, 112, 0, len(message)])
    total = sum(struct.unpack(f"!{(len(pseudo) + len(message)) // 2}H", pseudo + message))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF


def test_notifications_are_read_and_anything_else_is_ignored() -> None:
    assert parse_notification('INSTANCE "x" MASTER 110') == "MASTER"
    assert parse_notification('INSTANCE "x" FAULT 110') == "FAULT"
    assert parse_notification('GROUP "x" MASTER 110') is None
    assert parse_notification("") is None
