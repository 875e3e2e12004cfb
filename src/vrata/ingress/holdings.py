"""What outlives this process: hosts that a namespace had before an older Ingress of another one named them. Pure.

A ConfigMap beside the Service in front has them. Only these: the owner of every other host follows from the Ingresses.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from vrata.kube.objects import ConfigMap

KEY = "hosts"
_MOST_BYTES = 700_000  # a ConfigMap takes 1 MiB


def record_of(publish_service: str) -> str:
    """`namespace/name` of the ConfigMap, by the Service in front."""
    return f"{publish_service}-hosts"


def read_record(found: ConfigMap | None) -> dict[str, str]:
    """Host -> namespace; empty for what cannot be read."""
    try:
        return msgspec.json.decode(found.data.get(KEY, "{}") if found else "{}", type=dict[str, str])
    except msgspec.DecodeError:
        return {}


def write_record(kept: Mapping[str, str]) -> dict[str, Any]:
    """The ConfigMap's content."""
    rows, size = {}, 0
    for host, namespace in sorted(kept.items()):
        size += len(host) + len(namespace) + 8
        if size > _MOST_BYTES:
            break
        rows[host] = namespace
    return {"data": {KEY: msgspec.json.encode(rows).decode()}}


def is_recorded(content: dict[str, Any], found: ConfigMap | None) -> bool:
    """Whether the ConfigMap has this content; none at all is as good as an empty one."""
    return bool((found.data.get(KEY, "{}") if found else "{}") == content["data"][KEY])
