"""One write to one of the cloud's APIs, as a value: what the planner wants done, and what a dry run prints."""

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
BALANCING = "load-balancer"
NETWORK = "network"
KEY_MANAGER = "key-manager"
COMPUTE = "compute"
NOVA = "/v2.1"
LBAAS = "/v2.0/lbaas"


@dataclass(frozen=True)
class Call:
    """`service` is a type of the catalog. `instead`: bodies to try one after the other if the cloud has no room (409).

    `room`: what makes room, if the place is taken (409). `otherwise`: what brings back what was there, if the cloud
    refuses this after room was made.
    """

    service: str
    method: str
    path: str
    reason: str
    body: Json | None = field(default=None, hash=False)
    params: tuple[tuple[str, str], ...] = ()
    instead: tuple[Json, ...] = field(default=(), hash=False)
    room: "Call | None" = None
    otherwise: "Call | None" = None

    @property
    def resource(self) -> str:
        """The collection that it changes: `listeners`, `floatingips`."""
        parts = self.path.removeprefix(LBAAS).removeprefix("/v2.0").strip("/").split("/")
        return parts[2] if len(parts) > 2 else parts[0]


def balancing(method: str, path: str, reason: str, body: Json | None = None, **params: str) -> Call:
    """A write to the load balancers: `balancing("POST", "/listeners", …)`."""
    return Call(BALANCING, method, LBAAS + path, reason, body, tuple(params.items()))


def network(method: str, path: str, reason: str, body: Json | None = None, *, instead: tuple[Json, ...] = ()) -> Call:
    """A write to networks, ports and floating IPs: `network("POST", "/floatingips", …)`."""
    return Call(NETWORK, method, "/v2.0" + path, reason, body, instead=instead)
