"""docs/operate/install-helm.md: every command is taken from the page, run with the real helm, and prints what the page shows."""

import os
from pathlib import Path

from tests.support.helm import HELM, ROOT
from tests.support.kubernetes import own_cluster
from tests.support.pages import parse_blocks, run_blocks

PAGE = ROOT / "docs/operate/install-helm.md"
RUN_S = 300.0


def test_the_commands_of_the_page_print_what_it_shows(tmp_path: Path) -> None:
    """Pods do not run here, so that numbers of ready ones differ, which the comparison leaves out."""
    blocks = parse_blocks(PAGE.read_text())
    assert {block.where for block in blocks} == {"your cluster"}
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    (tmp_path / "kubernetes").mkdir()
    own = {f"HELM_{one}_HOME": str(tmp_path / one) for one in ("CACHE", "CONFIG", "DATA")}
    with own_cluster(tmp_path / "kubernetes") as (cluster, _server):
        path = {"PATH": f"{HELM.parent}:{ROOT / '.venv/bin'}:{os.environ['PATH']}"}
        run_blocks(blocks, tmp_path, cluster.environment() | own | path, RUN_S)
        assert cluster.run("get", "namespace", "vrata-system").status
