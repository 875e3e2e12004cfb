"""Commands that README and docs print: each is taken from its page, run, and prints what the page shows.

Those for the reader's own cluster change nothing here: kubectl asks the sandbox's API server with `--dry-run=server`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.pages import SANDBOX, Block, missing_lines, parse_blocks, run_blocks

ROOT = Path(__file__).parents[2]
RUN_S = 600.0
PAGES = (
    "README.md", "docs/tutorial/first-load-balancer.md", "docs/operating-the-provider.md", "docs/operate/runbooks.md",
    "docs/operate/troubleshoot.md",
)  # fmt: skip
CHANGING = "create|apply|patch|annotate|label|delete"
DRY_RUN = """#!/bin/bash
set -o pipefail
for word in "$@"; do
  case $word in {changing}) {kubectl} "$@" --dry-run=server | sed 's/ (server dry run)$//'; exit ;; esac
done
exec {kubectl} "$@"
"""


def environment(home: Path) -> dict[str, str]:
    """A reader's: the programs of the checkout come first on the path, and nothing says which cluster or cloud."""
    apart = ("KUBECONFIG", "OS_", "VRATA_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(apart)}
    programs = Path(sys.executable).parent
    return kept | {"PATH": f"{programs}:{os.environ['PATH']}", "VRATA_HOME": str(home)}


def kubectl_without_changes(folder: Path) -> Path:
    """A new folder with a kubectl that changes nothing."""
    programs = folder / "programs"
    programs.mkdir()
    kubectl = Path(sys.executable).with_name("kubectl")
    (programs / "kubectl").write_text(DRY_RUN.format(changing=CHANGING, kubectl=kubectl))
    (programs / "kubectl").chmod(0o755)
    return programs


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what the commands name, where they may write."""
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    return tmp_path


@pytest.mark.skipif(Path("/var/lib/vrata/default").exists(), reason="a sandbox is in use: run under tools/isolated")
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_print_what_it_shows(page: str, sandbox_home: Path, checkout: Path) -> None:
    blocks = parse_blocks((ROOT / page).read_text())
    here = [block for block in blocks if block.where == SANDBOX]
    cluster = [block for block in blocks if block.where == "your cluster"]
    assert here[0].commands.startswith("vrata up")
    assert here[-1].commands == "vrata down\n"
    dry_run = Block(f"own=$PATH PATH={kubectl_without_changes(checkout)}:$PATH\n")
    reader = environment(sandbox_home)
    try:
        run_blocks([here[0], dry_run, *cluster, Block("PATH=$own\n"), *here[1:]], checkout, reader, RUN_S)
    finally:
        subprocess.run(["vrata", "down"], env=reader, stdin=subprocess.DEVNULL, check=False, timeout=RUN_S)


def test_a_command_that_prints_something_else_would_be_noticed(tmp_path: Path) -> None:
    page = "```sh\necho 12 apples\n```\n\n```text\n7 apples\n```\n\n```sh\necho pears\n```\n\n```text\nplums\n```\n"
    first, second = parse_blocks(page)
    run_blocks([first], tmp_path, os.environ, RUN_S)
    with pytest.raises(AssertionError, match="plums"):
        run_blocks([first, second], tmp_path, os.environ, RUN_S)
    with pytest.raises(AssertionError, match="exit status 3"):
        run_blocks([Block("exit 3\n")], tmp_path, os.environ, RUN_S)


def test_lines_are_compared_in_order_and_without_numbers() -> None:
    assert missing_lines(["pod a-1 …", "done"], "pod   a-22 Running\n\ndone\n") == []
    assert missing_lines(["a 1/1 40s"], "a 1/1 2m19s\n") == []
    assert missing_lines(["done", "pod a-1"], "pod a-22\ndone\n") == ["pod a-1"]
