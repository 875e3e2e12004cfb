"""Pages with commands for a machine of a cloud: each is taken from its page, run beside a real cloud, and prints what it shows.

The machine has /etc and /var/lib of its own, on top of those of this one.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.pages import Block, parse_blocks, run_blocks
from tests.support.promql import PROMTOOL

ROOT = Path(__file__).parents[2]
PAGES = ("docs/operate/secure.md", "docs/operate/monitor.md", "docs/operate/upgrade.md")
RUN_S = 300.0
BASH = """#!/bin/sh
# Everything that a page changes on the machine is gone with this namespace.
exec unshare --mount /bin/bash "$@"
"""
BEGIN = """
for part in etc var/lib; do
  mkdir -p layers/$part/upper layers/$part/work
  mount -t overlay overlay -o lowerdir=/$part,upperdir=$PWD/layers/$part/upper,workdir=$PWD/layers/$part/work /$part
done
vrata cloud init --name localhost >/dev/null
vrata --config /etc/vrata/cloud.toml cloud serve 2>cloud.log & cloud=$!
until curl -s --cacert /etc/vrata/pki/ca.crt https://localhost:8780/healthcheck; do kill -0 $cloud; sleep 0.2; done
"""


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """The environment of a reader who is root on a machine of the cloud."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "bash").write_text(BASH)
    (programs / "bash").chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KUBECONFIG", "OS_", "VRATA_"))}
    return kept | {"PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_print_what_it_shows(page: str, tmp_path: Path, machine: dict[str, str]) -> None:
    blocks = [block for block in parse_blocks((ROOT / page).read_text()) if block.where == "your machine"]
    assert blocks
    run_blocks([Block(BEGIN), *blocks, Block("kill $cloud; wait $cloud\n")], tmp_path, machine, RUN_S)


@pytest.mark.skipif(not PROMTOOL, reason="no promtool; `tools/setup test` installs Debian's prometheus")
def test_prometheus_takes_the_configuration_of_the_page(tmp_path: Path) -> None:
    found = re.search(r"```yaml\n# prometheus.yml\n(.*?)```", (ROOT / "docs/operate/monitor.md").read_text(), re.DOTALL)
    assert found
    (tmp_path / "prometheus.yml").write_text(found[1])
    (tmp_path / "vrata-rules.yaml").write_text((ROOT / "deploy/monitoring/rules.yaml").read_text())
    for name in ("vrata-ca.crt", "vrata-metrics-token"):
        (tmp_path / name).touch()
    command = [PROMTOOL, "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
