"""TCP and UDP services: ports and the Services behind them, from a ConfigMap as ingress-nginx has it: pure.

`"9000": "default/example:8080"`; of TCP a third part `PROXY` says that clients come with the PROXY protocol, a fourth one
that pods get it.
"""

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from vrata.ingress.endpoints import PROXY, TCP, UDP, backend_key
from vrata.ingress.model import BackendKey

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_DATAGRAMS = re.compile(rf"({_LABEL})/({_LABEL}):({_LABEL})", re.ASCII)
_STREAMS = re.compile(rf"{_DATAGRAMS.pattern}(?::(PROXY)?)?(?::(PROXY)?)?", re.ASCII)
_PORT = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
MOST = 100  # each one is a listener of its own


class Port(NamedTuple):
    """A listener of TCP. `proxied`: its clients come with the PROXY protocol."""

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


Wrong = tuple[tuple[str, str], ...]  # reason, message


def read_streams(data: Mapping[str, str], taken: Collection[int]) -> tuple[dict[Port, BackendKey], Wrong]:
    """What of TCP can be served, and what is wrong with the rest; `taken` ports are the controller's own."""
    entries, wrong = _read(data, taken, _STREAMS, "write namespace/service:port, perhaps with :PROXY")
    found = {}
    for number, (namespace, service, port, received, sent) in entries.items():
        words = {TCP, *((PROXY,) if sent else ())}
        found[Port(number, bool(received))] = backend_key(f"{namespace}/{service}", port, words)
    return found, wrong


def read_datagrams(data: Mapping[str, str]) -> tuple[dict[int, BackendKey], Wrong]:
    """What of UDP can be served, and what is wrong with the rest; TCP may have the same ports."""
    entries, wrong = _read(data, (), _DATAGRAMS, "write namespace/service:port")
    return {
        number: backend_key(f"{namespace}/{service}", port, {UDP})
        for number, (namespace, service, port) in entries.items()
    }, wrong


def _read(
    data: Mapping[str, str], taken: Collection[int], pattern: re.Pattern[str], remedy: str
) -> tuple[dict[int, tuple[str, ...]], Wrong]:
    found: dict[int, tuple[str, ...]] = {}
    problems = []
    for key in sorted(data)[:MOST]:
        entry = pattern.fullmatch(data[key])
        if not _PORT.fullmatch(key) or int(key) > 65535:
            problems.append(("InvalidPort", f"data: {key[:40]!r} is no port; write a number from 1 to 65535"))
        elif int(key) in taken:
            problems.append(("InvalidPort", f"data.{key}: the controller itself has this port; use another one"))
        elif entry is None:
            problems.append(("InvalidService", f"data.{key}: {data[key][:80]!r} names no Service; {remedy}"))
        else:
            found[int(key)] = entry.groups()
    if len(data) > MOST:
        problems.append(("TooManyPorts", f"data: {len(data)} ports; only the first {MOST} are served"))
    return found, tuple(problems)
