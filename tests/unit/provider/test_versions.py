"""What an older Octavia lacks is left out and told with its version, or refused where it would mean something else."""

from typing import Any

import pytest
from tests.unit.provider.test_desired import NODES, make_service

from vrata.base.errors import InvalidInput
from vrata.provider.annotations import PREFIX
from vrata.provider.desired import desired
from vrata.provider.model import NEWEST, Desired, Settings, Version
from vrata.provider.versions import parse_version

FLAVOR = "11111111-1111-4111-8111-111111111111"
LOCAL: Any = {"externalTrafficPolicy": "Local", "healthCheckNodePort": 31000}
UDP: Any = {"ports": [{"port": 53, "protocol": "UDP", "nodePort": 30053}]}


def wanted(octavia: Version, annotations: dict[str, str] | None = None, **spec: object) -> Desired:
    return desired(Settings(octavia=octavia), make_service(annotations, **spec), NODES)


def noted(found: Desired) -> str:
    [note] = found.notes
    return f"{note.reason}: {note.message}"


def test_the_newest_version_of_the_list_counts() -> None:
    rows = [{"id": f"v2.{minor}", "status": "SUPPORTED"} for minor in (0, 9, 27, 10)]
    assert parse_version({"versions": rows}) == (2, 27)


@pytest.mark.parametrize("body", [{}, {"versions": None}, {"versions": [{"id": "v1"}, "v2", {}]}])
def test_of_a_cloud_that_does_not_say_everything_is_expected(body: dict[str, object]) -> None:
    assert parse_version(body) == NEWEST


def test_an_older_one_has_one_family() -> None:
    families: Any = {"ipFamilies": ["IPv4", "IPv6"]}
    assert wanted((2, 26), **families).vip.families == (4, 6)
    old = wanted((2, 25), **families)
    assert old.vip.families == (4,)
    assert "2.25" in noted(old)
    assert "2.26" in noted(old)


def test_an_older_one_has_no_source_ranges() -> None:
    ranges: Any = {"loadBalancerSourceRanges": ["192.0.2.0/24"]}
    assert wanted((2, 12), **ranges).listeners[0].allowed_cidrs
    old = wanted((2, 11), **ranges)
    assert not old.listeners[0].allowed_cidrs
    assert noted(old).startswith("LoadBalancerSourceRangesIgnored")
    assert "2.12" in noted(old)


@pytest.mark.parametrize(
    ("name", "value", "attribute", "since"),
    [("flavor-id", FLAVOR, "flavor_id", (2, 6)), ("availability-zone", "z", "availability_zone", (2, 14))],
)
def test_an_older_one_and_ovn_have_no_flavors_and_zones(name: str, value: str, attribute: str, since: Version) -> None:
    said = {PREFIX + name: value}
    assert getattr(wanted(since, said), attribute) == value
    for found in (
        wanted((2, since[1] - 1), said),
        desired(Settings(provider="ovn"), make_service(said), NODES),
    ):
        assert not getattr(found, attribute)
        assert value in noted(found)


def test_an_older_one_asks_members_of_udp_in_its_own_way() -> None:
    new, old = (wanted((2, minor), **LOCAL, **UDP).listeners[0].pool for minor in (16, 15))
    assert new.monitor
    assert (new.monitor.type, {one.monitor_port for one in new.members}) == ("HTTP", {31000})
    assert old.monitor
    assert (old.monitor.type, old.monitor.path, old.monitor.delay_s >= 3) == ("UDP-CONNECT", None, True)
    assert {one.monitor_port for one in old.members} == {None}
    assert "2.16" in noted(wanted((2, 15), **LOCAL, **UDP))


@pytest.mark.parametrize(
    ("octavia", "annotations", "spec", "words"),
    [
        ((2, 4), {}, {}, ("2.4", "2.5", "tags")),
        ((2, 21), {PREFIX + "proxy-protocol": "v2"}, {}, ("proxy-protocol", "2.21", "2.22", "v1")),
        ((2, 22), {}, {"ports": [{"port": 9, "protocol": "SCTP", "nodePort": 30009}]}, ("SCTP/9", "2.22", "2.23")),
        ((2, 12), {PREFIX + "lb-method": "SOURCE_IP_PORT"}, {}, ("lb-method", "2.12", "2.13")),
    ],
)
def test_what_would_mean_something_else_is_refused(
    octavia: Version, annotations: dict[str, str], spec: dict[str, object], words: tuple[str, ...]
) -> None:
    try:
        [problem] = wanted(octavia, annotations, **spec).problems
        refused = problem.error()
    except InvalidInput as error:  # too old for any load balancer
        refused = error
    assert all(word in str(refused) for word in words)
    assert wanted((2, octavia[1] + 1), annotations, **spec).notes == ()
