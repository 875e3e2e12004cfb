"""`tools/setup` on a machine that has nothing yet: it says what it begins, and installs all that is missing."""

import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Each writes its name beside what setup prints, in the order in which things happen.
STUB = '#!/bin/sh\necho "RUN ${0##*/} $*" >>"$TRACE"\n'
PIP = 'mkdir -p .venv/bin; cp "$STUBS/pip" .venv/bin/pip; chmod +x .venv/bin/pip'
STUBS = {
    "apt-get": STUB,
    "pip": STUB,
    "python3": f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\n{STUB.partition(chr(10))[2]}{PIP}\n',
}


def trace_of(directory: Path) -> list[str]:
    """What setup printed and ran, where no program that it looks for is in sbin, and apt-get, python3 and pip do nothing."""
    checkout, stubs, empty, trace = (directory / name for name in ("checkout", "stubs", "empty", "trace"))
    for made in (checkout / "tools", stubs, empty):
        made.mkdir(parents=True)
    shutil.copy(ROOT / "tools/setup", checkout / "tools")
    for name in ("requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    for name, text in STUBS.items():
        (stubs / name).write_text(text)
        (stubs / name).chmod(0o755)
    hidden = 'mount --bind "$1" /usr/sbin && exec tools/setup'  # in a namespace of its own: nothing is written there
    environment = {"PATH": f"{stubs}:/usr/bin:/bin", "TRACE": str(trace), "STUBS": str(stubs)}
    with trace.open("ab") as output:
        subprocess.run(
            ["unshare", "--mount", "sh", "-c", hidden, "sh", str(empty)],
            cwd=checkout, env=environment, stdout=output, stderr=output, check=True, timeout=60,
        )  # fmt: skip
    return trace.read_text().splitlines()


def test_each_step_is_announced_before_it_begins(tmp_path: Path) -> None:
    announced = False
    ran: list[str] = []
    for line in trace_of(tmp_path):
        if re.match(r"\d\d:\d\d:\d\d  setup: ", line):
            announced = True
        elif line.startswith("RUN"):
            program = line.split()[1]
            assert announced or program == ran[-1], f"nothing was printed before {line}"
            announced = False
            ran.append(program)
    assert ran == ["apt-get", "apt-get", "python3", "pip", "pip"]


def test_all_that_a_bare_debian_lacks_is_installed(tmp_path: Path) -> None:
    (install,) = [line for line in trace_of(tmp_path) if line.startswith("RUN apt-get install")]
    assert {"haproxy", "keepalived", "nftables", "conntrack", "conntrackd", "python3-venv"} <= set(install.split())
