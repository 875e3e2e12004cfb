"""Reads from a running HAProxy what it has: backends, servers and maps (management guide 2.6, section 9.3)."""

from vrata.haproxy.runtime import RuntimeClient
from vrata.ingress.plan import Observed
from vrata.ingress.render import MAPS, map_path

BACKEND_PREFIX = "b-"


async def observe(runtime: RuntimeClient, directory: str) -> Observed:
    """The state of the process that answers on the socket; VrataError if none does."""
    backends = frozenset(
        line for line in (await runtime.ask("show backend")).splitlines() if line.startswith(BACKEND_PREFIX)
    )
    servers = {}
    for line in (await runtime.ask("show servers state")).splitlines():
        row = line.split()
        if len(row) > 6 and not line.startswith("#") and row[1].startswith(BACKEND_PREFIX):
            servers[row[1], row[3]] = row[6] != "0"  # srv_admin_state: 0 is in service
    maps = {name: await _map(runtime, map_path(directory, name)) for name in MAPS}
    return Observed(backends, servers, maps)


async def _map(runtime: RuntimeClient, path: str) -> dict[str, str]:
    entries = {}
    for line in (await runtime.ask(f"show map {path}")).splitlines():
        row = line.split(" ", 2)  # an address, the key, the value
        if len(row) == 3:
            entries[row[1]] = row[2]
    return entries
