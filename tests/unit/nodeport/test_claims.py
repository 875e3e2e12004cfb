"""One odd Service, or several that ask for the same address, harm no other Service of the node."""

from collections import Counter
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from vrata.kube.objects import EndpointSlice, Service
from vrata.nodeport.claims import Claim, Claims
from vrata.nodeport.model import HAIRPINS
from vrata.nodeport.plan import Here, view_service
from vrata.nodeport.render import render_rules

ADDRESSES = ["192.0.2.1", "192.0.2.2", "10.96.0.1", "10.96.0.2", "2001:db8::1", "2001:DB8::0001"]
ODD = [
    "",
    " 192.0.2.0/24 ",
    "192.0.2.300",
    "not an address",
    "::1%lo",
    "192.0.2.0/33",
    "0",
    "\u0661\u0662",
    "1.2.3.4/0.0.0.255",
]
ASKED = st.lists(st.sampled_from([*ADDRESSES, *ODD]), max_size=3)
NAMES = ["a", "b", "c"]


def make(name: str, age: int, own: str, external: list[str], balancer: list[str], ranges: list[str]) -> Service:
    ports = [{"name": "p", "port": 80, "protocol": "TCP"}, {"name": "q", "port": 53, "protocol": "UDP"}]
    body: dict[str, Any] = {
        "metadata": {"name": name, "namespace": "x", "creationTimestamp": f"2026-01-01T00:00:0{age}Z"},
        "spec": {"type": "LoadBalancer", "clusterIP": own, "clusterIPs": [own], "ports": ports, "externalIPs": external,
                 "loadBalancerSourceRanges": ranges},
        "status": {"loadBalancer": {"ingress": [{"ip": one, "ipMode": "VIP"} for one in balancer]}},
    }  # fmt: skip
    return msgspec.convert(body, Service)


def make_slice(address: str) -> EndpointSlice:
    body = {
        "metadata": {"name": "s", "namespace": "x", "labels": {"kubernetes.io/service-name": "a"}}, "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "p", "port": 8080, "protocol": "TCP"}],
    }  # fmt: skip
    return msgspec.convert(body, EndpointSlice)


SERVICES = st.fixed_dictionaries(
    {}, optional={name: st.tuples(st.integers(0, 2), ASKED, ASKED, ASKED) for name in NAMES}
)


@given(st.lists(SERVICES, min_size=1, max_size=4), st.sampled_from(["10.0.0.1", *ODD]))
def test_no_two_services_write_the_same_element_and_none_makes_a_fault(
    history: list[dict[str, Any]], endpoint: str
) -> None:
    claims, found = Claims(), dict[str, Service]()
    for wanted in history:
        for name in NAMES:
            key = f"x/{name}"
            found.pop(key, None)
            if name in wanted:
                age, external, balancer, ranges = wanted[name]
                found[key] = make(name, age, f"10.96.0.{NAMES.index(name) + 1}", external, balancer, ranges)
            claims.put(key, found.get(key))
        elements: Counter[tuple[str, ...]] = Counter()
        for service in found.values():
            views = view_service(service, [make_slice(endpoint)], Here("n"))
            granted = [claims.granted(view)[0] for view in views]
            mine = {one for one in render_rules(granted).elements if one[1] != HAIRPINS}
            elements.update(mine)
            own = service.spec.cluster_ip
            assert any(key.startswith(f"{own} . ") for _, _, key in mine), "its own address is always served"
        assert [one for one, times in elements.items() if times > 1] == []


def test_the_oldest_has_an_address_until_it_goes_and_others_are_named() -> None:
    claims, wanted = Claims(), Claim("192.0.2.1", "tcp", 80)
    claims.put("x/a", make("a", 2, "10.96.0.1", ["192.0.2.1"], [], []))
    assert claims.put("x/b", make("b", 1, "10.96.0.2", ["192.0.2.1"], [], [])) == {"x/a"}
    assert claims.holder(wanted) == "x/b"
    assert claims.put("x/b", None) == {"x/a"}
    assert claims.holder(wanted) == "x/a"
    claims.put("x/c", make("c", 0, "10.96.0.3", ["10.96.0.1"], [], []))
    assert claims.holder(Claim("10.96.0.1", "tcp", 80)) == "x/a", "a ClusterIP is its Service's, however young"
    claims.put("x/d", make("d", 9, "10.96.0.4", [], ["192.0.2.1"], []))
    assert claims.holder(wanted) == "x/d", "so is a load balancer's address"


def test_ranges_that_cannot_be_read_let_nobody_in_and_blanks_do_not_count() -> None:
    def ranges(*texts: str) -> tuple[str, ...]:
        (view, _) = view_service(make("a", 0, "10.96.0.1", [], ["192.0.2.1"], list(texts)), [], Here("n"))
        return view.source_ranges

    assert ranges(" 192.0.2.0/24 ", "nonsense") == ("192.0.2.0/24",)
    assert ranges("nonsense") == ("0.0.0.0/32", "::/128")
    assert ranges() == ()
