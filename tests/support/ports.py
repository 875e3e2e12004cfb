"""Ports that nobody else takes between the moment a test chooses one and the moment its server listens."""

import os
import socket
import threading
from pathlib import Path

_FIRST = 10_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_lock = threading.Lock()
_given: set[int] = set()


def free_port() -> int:
    """A port, TCP and UDP, that nobody has and that this process has not been given before.

    It lies below the range from which the kernel takes ports for connections (ip(7), ip_local_port_range), so that no
    connection can occupy it meanwhile. AssertionError if there is none left.
    """
    least = int(_RANGE.read_text().split()[0])
    with _lock:
        for step in range(least - _FIRST):
            # Test runs that share a network start at different ports.
            port = _FIRST + (os.getpid() * 131 + len(_given) + step) % (least - _FIRST)
            if port not in _given and _is_free(port):
                _given.add(port)
                return port
    raise AssertionError(f"no port from {_FIRST} to {least} is free")


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
