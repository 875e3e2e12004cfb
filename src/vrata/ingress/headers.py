"""Headers as a ConfigMap has them, a key each: for the answers of pods, or for an auth service. Pure.

ingress-nginx, `custom-headers` and `auth-proxy-set-headers`.
"""

import re
from dataclasses import dataclass

from vrata.ingress.annotations import grammar
from vrata.ingress.model import SecretKey
from vrata.kube.objects import ConfigMap

HEADERS = ";headers"  # what follows `namespace/name` in the key of such a ConfigMap
MOST = 64
_VALUE = re.compile(r"[ -~]{0,1024}", re.ASCII)
# They say where an answer ends, and how long its connection lasts (RFC 9110, section 7.6.1).
_FRAMING = {
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


@dataclass(frozen=True)
class Headers:
    """Names and values."""

    values: tuple[tuple[str, str], ...] = ()


def headers_in(key: SecretKey, found: ConfigMap | None) -> Headers | tuple[str, str]:
    """The headers of a ConfigMap, or why there are none (reason, message)."""
    name = key.partition(";")[0]
    if found is None:
        return "ConfigMapNotFound", f"no ConfigMap {name!r}; create it, then its headers are set"
    if len(found.data) > MOST:
        return "InvalidConfigMap", f"ConfigMap {name!r} has {len(found.data)} headers; name at most {MOST}"
    values = tuple((header, value.strip()) for header, value in sorted(found.data.items()))
    for header, value in values:
        wrong = _wrong(header, value)
        if wrong:
            return "InvalidConfigMap", f"ConfigMap {name!r}, data.{header[:80]}: {wrong}; none of its headers is set"
    return Headers(values)


def _wrong(name: str, value: str) -> str:
    try:
        grammar.token(name)
    except ValueError as error:
        return f"it is no name of a header; {error}"
    if name.lower() in _FRAMING:
        return "it is of the connection itself; remove it"
    return "" if _VALUE.fullmatch(value) else "write at most 1,024 printable ASCII characters"
