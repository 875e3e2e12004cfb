"""The HAProxies that tests run: the one on PATH, and a newer one that `tools/newer-haproxy` has fetched."""

import os
from pathlib import Path

SYSTEM = "haproxy"
NEWER = str(Path(__file__).parents[2] / "build/haproxy-experimental/haproxy")


def present(binary: str) -> str:
    """The same, if it is there."""
    assert binary == SYSTEM or Path(binary).exists(), "there is no newer HAProxy; run tools/newer-haproxy"
    return binary


def environment(binary: str) -> dict[str, str]:
    """That of a process which shall run it as `haproxy`."""
    path = os.environ["PATH"]
    return os.environ | ({} if binary == SYSTEM else {"PATH": f"{Path(present(binary)).parent}:{path}"})
