"""Which Service has an address and port that several ask for: pure.

A ClusterIP's own Service has it, then the one whose load balancer it is (controllers write the status), then the oldest:
anybody may write `spec.externalIPs` (CVE-2020-8554). The others are served everywhere else.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from vrata.kube.objects import Service
from vrata.nodeport.model import PortView
from vrata.nodeport.plan import addresses_of, is_served

_LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, order=True)
class Claim:
    """Where a Service port wants to answer. `protocol` in small letters."""

    address: str
    protocol: str
    port: int


class Claims:
    """What every Service asks for."""

    def __init__(self) -> None:
        self._of: dict[str, frozenset[Claim]] = {}
        self._rank: dict[str, tuple[datetime, str]] = {}
        self._own: dict[str, frozenset[str]] = {}  # cluster addresses, by Service
        self._balancer: dict[str, frozenset[str]] = {}  # addresses of load balancers, by Service
        self._by_claim: defaultdict[Claim, set[str]] = defaultdict(set)

    def put(self, key: str, service: Service | None) -> set[str]:
        """The Service asks for this from now on; the others whose share may have changed."""
        old = self._of.pop(key, frozenset())
        new = _claims(service) if service and is_served(service) else frozenset()
        for claim in old:
            self._by_claim[claim].discard(key)
            if not self._by_claim[claim]:
                del self._by_claim[claim]
        others = {one for claim in old | new for one in self._by_claim.get(claim, ())}
        if service and new:
            self._of[key] = new
            self._rank[key] = service.metadata.creation_timestamp or _LAST, key
            self._own[key] = frozenset(addresses_of(service.spec.cluster_ips or (service.spec.cluster_ip,)))
            self._balancer[key] = frozenset(addresses_of(one.ip for one in service.status.load_balancer.ingress))
            for claim in new:
                self._by_claim[claim].add(key)
        else:
            self._rank.pop(key, None)
            self._own.pop(key, None)
            self._balancer.pop(key, None)
        return others

    def holder(self, claim: Claim) -> str:
        """The Service that has it; empty if nobody asks."""
        asked = self._by_claim.get(claim, ())
        address = claim.address
        return min(
            asked,
            key=lambda key: (address not in self._own[key], address not in self._balancer[key], *self._rank[key]),
            default="",
        )

    def granted(self, view: PortView) -> tuple[PortView, list[Claim]]:
        """A port without the addresses that another Service has, and what it does not get."""
        lost = [
            claim
            for address in (*view.external_ips, *view.balancer_ips)
            if self.holder(claim := Claim(address, view.protocol, view.port)) != view.service
        ]
        gone = {claim.address for claim in lost}
        external = tuple(address for address in view.external_ips if address not in gone)
        balancer = tuple(address for address in view.balancer_ips if address not in gone)
        return replace(view, external_ips=external, balancer_ips=balancer) if lost else view, lost


def _claims(service: Service) -> frozenset[Claim]:
    spec = service.spec
    asked: Iterable[str] = (*(spec.cluster_ips or (spec.cluster_ip,)), *spec.external_ips)
    asked = (*asked, *(one.ip for one in service.status.load_balancer.ingress if one.ip))
    return frozenset(
        Claim(address, port.protocol.lower(), port.port) for address in addresses_of(asked) for port in spec.ports
    )
