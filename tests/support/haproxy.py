"""The HAProxies that tests run: the one on PATH, and one that adds backends while it runs.

The second is the first where that can do it, else the one that `tools/newer-haproxy` has fetched.
"""

import os
import subprocess
from pathlib import Path

SYSTEM = "haproxy"
_FETCHED = str(Path(__file__).parents[2] / "build/haproxy-experimental/haproxy")


def adds_backends(binary: str) -> bool:
    """Whether its command line has `add backend` (management guide, 9.3; -dK: the starter's options)."""
    # Without a frontend it ends with an error, after it has listed its commands.
    argv = [binary, "-dKcli", "-q", "-c", "-f", os.devnull]
    return "add backend " in subprocess.run(argv, capture_output=True, text=True, check=False).stdout


ADDS_BACKENDS = SYSTEM if adds_backends(SYSTEM) else _FETCHED
BINARIES = {"system": SYSTEM} | ({} if ADDS_BACKENDS == SYSTEM else {"adds-backends": ADDS_BACKENDS})


def present(binary: str) -> str:
    """The same, if it is there."""
    assert binary == SYSTEM or Path(binary).exists(), "no HAProxy here adds backends; run tools/newer-haproxy"
    return binary


def environment(binary: str) -> dict[str, str]:
    """That of a process which shall run it as `haproxy`."""
    path = os.environ["PATH"]
    return os.environ | ({} if binary == SYSTEM else {"PATH": f"{Path(present(binary)).parent}:{path}"})
