"""What a series of echo answers makes of a member, and the packets themselves."""

import struct

from tests.support.everything import everything

from vrata.host.ping import Health, Target, echo_request, parse_echo_reply, ping_targets

TARGET = Target("192.0.2.1", delay_s=5, timeout_s=1, rise=2, fall=3)


def after(answers: str) -> list[bool]:
    health, seen = Health(), []
    for answered in answers:
        health.take(answered=answered == "+", target=TARGET)
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
    health = Health()
    assert health.due(100.0, TARGET)
    health.probed_s = 100.0
    assert not health.due(102.5, TARGET)
    assert health.due(104.9, TARGET)
