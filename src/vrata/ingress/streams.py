"""TCP services: ports and the Services behind them, from a ConfigMap as ingress-nginx has it: pure.

`"9000": "default/example:8080"`; a third part `PROXY` says that clients come with the PROXY protocol, a fourth one that pods
get it.
"""

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from vrata.ingress.endpoints import PROXY, TCP, backend_key
from vrata.ingress.model import BackendKey

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_ENTRY = re.compile(rf"({_LABEL})/({_LABEL}):({_LABEL})(?::(PROXY)?)?(?::(PROXY)?)?", re.ASCII)
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
MOST = 100  # each one is a listener of its own


class Port(NamedTuple):
    """A listener. `proxied`: its clients come with the PROXY protocol."""

    number: int
    proxied: bool = False

    @property
    def name(self) -> str:
        """Of its frontend, and of its row."""
        return f"tcp-{self.number}{'-proxied' if self.proxied else ''}"

    @classmethod
    def of_name(cls, name: str) -> "Port | None":
        """The listener with this name; None if it has another purpose."""
        kind, _, rest = name.partition("-")
        number, _, proxied = rest.partition("-")
        return cls(int(number), bool(proxied)) if kind == "tcp" and number.isdigit() else None


def read_streams(
    data: Mapping[str, str], taken: Collection[int]
) -> tuple[dict[Port, BackendKey], tuple[tuple[str, str], ...]]:
    """What can be served, and what is wrong with the rest (reason, message); `taken` ports are the controller's own."""
    found: dict[Port, BackendKey] = {}
    problems = []
    for key in sorted(data)[:MOST]:
        entry = _ENTRY.fullmatch(data[key])
        if not _PORT.fullmatch(key) or int(key) > 65535:
            problems.append(("InvalidPort", f"data: {key[:40]!r} is no port; write a number from 1 to 65535"))
        elif int(key) in taken:
            problems.append(("InvalidPort", f"data.{key}: the controller itself has this port; use another one"))
        elif entry is None:
            remedy = "write namespace/service:port, perhaps with :PROXY"
            problems.append(("InvalidService", f"data.{key}: {data[key][:80]!r} names no Service; {remedy}"))
        else:
            namespace, service, port, received, sent = entry.groups()
            words = {TCP, *((PROXY,) if sent else ())}
            found[Port(int(key), bool(received))] = backend_key(f"{namespace}/{service}", port, words)
    if len(data) > MOST:
        problems.append(("TooManyPorts", f"data: {len(data)} ports; only the first {MOST} are served"))
    return found, tuple(problems)
