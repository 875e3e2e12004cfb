"""Whose PROXY headers are believed, as rows of HAProxy's map `proxies`: pure.

What is named on the command line; else what the Service in front says (`vrata.kube.sources`), if nodes leave the balancer its
address. Where they do not, the balancer cannot be told from others: everybody is believed, and an event says so.
"""

from collections.abc import Mapping
from functools import lru_cache

from vrata.base.errors import InvalidInput
from vrata.kube.objects import Service
from vrata.kube.sources import SOURCES, Sources, parse_sources

BALANCER, OTHER = "balancer", "other"
EVERYBODY = Sources(frozenset({"0.0.0.0/0", "::/0"}))
TARGET = "vrata.dev/target"  # `pod`: the balancer reaches pods without a node between
OPTION = "--proxy-protocol-from NETWORK"
Wrong = tuple[str, str]  # reason and message of an event
_HIDDEN: Wrong = (
    "ProxyHeadersFromEverybody",
    (
        "spec.externalTrafficPolicy: Cluster hides the balancer's address, so PROXY headers of everybody are believed;"
        f" use Local, or start the controller with {OPTION}"
    ),
)
_UNKNOWN: Wrong = (
    "ProxySourcesUnknown",
    (
        f"annotation {SOURCES} is not set, so PROXY headers of nobody are believed; the Vrata provider sets it;"
        f" with another provider start the controller with {OPTION}"
    ),
)

_parse = lru_cache(8)(parse_sources)


def sources_of(named: tuple[str, ...], front: Service | None) -> tuple[Sources, Wrong | None]:
    """Who is believed, and what is wrong with that; `named` are the networks of the command line."""
    if named:
        return Sources(frozenset(named)), None
    if front is None:
        return Sources(), None
    served = bool(front.status.load_balancer.ingress)  # before that the provider has not had its turn
    if front.spec.external_traffic_policy != "Local" and front.metadata.annotations.get(TARGET) != "pod":
        return EVERYBODY, _HIDDEN if served else None
    try:
        found = _parse(front.metadata.annotations.get(SOURCES, ""))
    except InvalidInput as error:
        return Sources(), ("ProxySourcesInvalid", f"{error}; until then PROXY headers of nobody are believed")
    return found, None if found.believed or not served else _UNKNOWN


def rows_of_sources(sources: Sources) -> Mapping[str, str]:
    """Network -> who that is; of several networks HAProxy takes the longest (configuration manual, `map_ip`)."""
    return dict.fromkeys(sources.believed, BALANCER) | dict.fromkeys(sources.others, OTHER)
