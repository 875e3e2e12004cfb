"""Commands of a documentation page, and what the page says they print.

A block of `sh` is run as one shell would run it, line after line; the block of `text` after it is what the reader sees. A comment
`<!-- run on: your machine -->` or `<!-- run on: your cluster -->` above a block says that it is for another place than the
sandbox.
"""

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SANDBOX = "the sandbox"
ELLIPSIS = "…"
_BLOCK = re.compile(
    r"^(?:<!-- run on: (?P<where>[a-z0-9, -]+) -->\n)?```sh\n(?P<commands>.*?)^```\n(?:\n*^```text\n(?P<shown>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
# Also ages as kubectl writes them: 40s, 2m19s.
_VARIES = re.compile(r"\bhost-[a-z]\b|\b[0-9a-f]{5,}\b|\b(?:\d+[dhm])*\d+[dhms]\b|\d+(?:\.\d+)*")


@dataclass(frozen=True)
class Block:
    """Commands, what they show, and where they are run."""

    commands: str
    shown: tuple[str, ...] = ()
    where: str = SANDBOX


def parse_blocks(page: str) -> list[Block]:
    """All blocks of commands; ValueError if the page has one that a reader sees and this does not."""
    found = [
        Block(one["commands"], tuple((one["shown"] or "").splitlines()), one["where"] or SANDBOX)
        for one in _BLOCK.finditer(page)
    ]
    fences = len(re.findall(r"^\s*```sh\b", page, re.MULTILINE))
    if len(found) != fences:
        raise ValueError(f"{fences} blocks of `sh`, of which {len(found)} can be read; write them without indentation")
    return found


def missing_lines(shown: Sequence[str], printed: str) -> list[str]:
    """Lines that are shown and were not printed, in this order. Numbers, ids, which host it is and the
    width of columns may differ; `…` stands for any text."""
    lines = iter([_plain(line) for line in printed.splitlines()])
    missing = []
    for line in shown:
        wanted = re.compile(".*".join(re.escape(part) for part in _plain(line).split(ELLIPSIS)))
        if line.strip() and not any(wanted.fullmatch(printed_line) for printed_line in lines):
            missing.append(line)
            break  # everything after it is looked for behind the end
    return missing


def _plain(line: str) -> str:
    return " ".join(_VARIES.sub("#", line).split())


def run_blocks(blocks: Sequence[Block], folder: Path, environment: Mapping[str, str], timeout_s: float) -> None:
    """Run blocks in one shell; AssertionError with everything printed if a command fails or shows something else."""
    mark = "---- end of block"
    script = "\n".join(f"{block.commands}\necho '{mark}'" for block in blocks)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False, timeout=timeout_s,
    )  # fmt: skip
    assert done.returncode == 0, f"exit status {done.returncode}:\n{done.stdout}"
    printed = done.stdout.split(f"{mark}\n")
    for block, output in zip(blocks, printed, strict=False):
        missing = missing_lines(block.shown, output)
        assert not missing, f"{block.commands}\nshows on the page:\n{missing[0]}\nand printed:\n{output}"
