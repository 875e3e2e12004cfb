"""What a series of echo answers makes of a member, and the packets themselves."""

import struct

from tests.support.everything import everything

from vrata.host.health import Health, judge
from vrata.host.ping_checks import Target, is_due, ping_targets
from vrata.net.icmp import echo_request, parse_echo_reply

TARGET = Target("192.0.2.1", delay_s=5, timeout_s=1, rise=2, fall=3)


def after(answers: str) -> list[bool]:
    health, seen = Health(), []
    for answered in answers:
        health = judge(health, good=answered == "+", rise=TARGET.rise, fall=TARGET.fall)
        seen.append(health.up)
    return seen


def test_a_member_falls_after_three_silences_and_rises_after_two_answers() -> None:
    assert after("--+---") == [True, True, True, True, True, False]
    assert after("---+-++") == [True, True, False, False, False, False, True]


def test_only_members_of_pools_that_are_pinged_are_targets() -> None:
    assert ping_targets(everything()) == {"m1": Target("10.10.0.21", delay_s=5, timeout_s=3, rise=1, fall=3)}


def test_an_echo_request_has_a_right_checksum_and_its_answer_is_recognized() -> None:
    request = echo_request(513, six=False)
    total = sum(struct.unpack(f"!{len(request) // 2}H", request))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
    reply = b"\x45" + bytes(19) + b"\0" + request[1:]
    assert parse_echo_reply(reply, six=False) == 513
    assert parse_echo_reply(b"\x81" + echo_request(7, six=True)[1:], six=True) == 7


def test_what_is_no_answer_of_ours_is_nothing() -> None:
    request = echo_request(1, six=False)
    assert parse_echo_reply(b"\x45" + bytes(19) + request, six=False) is None
    assert parse_echo_reply(b"", six=False) is None
    assert parse_echo_reply(b"\x45", six=True) is None


def test_a_member_asked_about_twice_in_a_delay_is_probed_once() -> None:
    assert is_due(None, 100.0, TARGET)
    assert not is_due(100.0, 102.5, TARGET)
    assert is_due(100.0, 104.9, TARGET)
