"""Pages with commands for the reader's cluster: each is taken from its page, run with the real helm, and prints what it shows."""

import os
from pathlib import Path

import pytest
from tests.support.helm import HELM, ROOT
from tests.support.kubernetes import own_cluster
from tests.support.pages import Block, parse_blocks, run_blocks

INSTALL = ROOT / "docs/operate/install-helm.md"
OTHERS = ("docs/operate/monitor.md", "docs/operate/upgrade.md")
CLUSTER = "your cluster"
RUN_S = 300.0


def run(blocks: list[Block], folder: Path, leaves: str) -> None:
    """Pods do not run here, so that numbers of ready ones differ, which the comparison leaves out."""
    (folder / "deploy").symlink_to(ROOT / "deploy")
    (folder / "kubernetes").mkdir()
    own = {f"HELM_{one}_HOME": str(folder / one) for one in ("CACHE", "CONFIG", "DATA")}
    with own_cluster(folder / "kubernetes") as (cluster, _server):
        path = {"PATH": f"{HELM.parent}:{ROOT / '.venv/bin'}:{os.environ['PATH']}"}
        run_blocks(blocks, folder, cluster.environment() | own | path, RUN_S)
        assert bool(cluster.run("get", "namespace", "vrata-system").status) is not bool(leaves)


def test_the_commands_of_the_installation_print_what_the_page_shows(tmp_path: Path) -> None:
    blocks = parse_blocks(INSTALL.read_text())
    assert {block.where for block in blocks} == {CLUSTER}
    run(blocks, tmp_path, leaves="")


@pytest.mark.parametrize("page", OTHERS)
def test_the_commands_of_a_page_print_what_it_shows_after_the_installation(page: str, tmp_path: Path) -> None:
    blocks = [block for block in parse_blocks((ROOT / page).read_text()) if block.where == CLUSTER]
    assert blocks
    run([*parse_blocks(INSTALL.read_text())[:3], *blocks], tmp_path, leaves="vrata-system")
