"""What the image and the packages hold is what the tests run with: the two lock files agree."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _locked(name: str) -> dict[str, set[str]]:
    """Requirement -> hashes."""
    text = (ROOT / name).read_text()
    return {
        found[1]: set(re.findall(r"--hash=(sha256:\w+)", found[2]))
        for found in re.finditer(r"^(\S+==\S+)((?:.*\\\n)+.*)$", text, re.MULTILINE)
    }


def test_the_runtime_lock_is_a_part_of_the_other() -> None:
    everything = _locked("requirements.lock")
    runtime = _locked("requirements-runtime.lock")
    assert runtime.items() <= everything.items()
    assert all(runtime.values())


def test_the_runtime_lock_has_what_the_project_depends_on() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[\[<>=]", dependency)[0] for dependency in dependencies}
    assert names <= {requirement.partition("==")[0] for requirement in _locked("requirements-runtime.lock")}
