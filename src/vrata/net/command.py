"""Runs the system's own network tools, optionally inside a network namespace; errors carry what the tool said.

`nsenter --net=FILE` execs its command after setns(2), so the process started here *is* the tool.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from vrata.base.errors import VrataError

NETNS_DIR = Path("/run/netns")
TIMEOUT_S = 20.0


class CommandFailed(VrataError):
    """A tool ended with a non-zero status; `stderr` is what it printed."""

    def __init__(self, argv: Sequence[str], status: int, stderr: str) -> None:
        said = stderr.strip() or "no message"
        super().__init__(f"`{' '.join(argv)}` ended with status {status}: {said}")
        self.status = status
        self.stderr = stderr


def inside(netns: str | None, *argv: str) -> tuple[str, ...]:
    """The argument vector that runs `argv` in the namespace (`None`: this process's own)."""
    return argv if netns is None else ("nsenter", f"--net={NETNS_DIR / netns}", "--", *argv)


async def run(
    *argv: str,
    netns: str | None = None,
    stdin: str = "",
    timeout_s: float = TIMEOUT_S,
    started: Callable[[int], None] = lambda _: None,
) -> str:
    """Run a tool to its end and return what it printed; CommandFailed if it failed, was missing or too slow.

    `started` is told its process' number before it is given anything to do on `stdin`. A tool that is interrupted by the
    time-out is killed and reaped.
    """
    command = inside(netns, *argv)
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise VrataError(f"{error.filename}: command not found", remedy="run tools/setup") from error
    started(process.pid)
    try:
        async with asyncio.timeout(timeout_s):
            stdout, stderr = await process.communicate(stdin.encode())
    except TimeoutError as error:
        raise CommandFailed(argv, -1, f"no end within {timeout_s} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise CommandFailed(argv, process.returncode, stderr.decode(errors="replace"))
    return stdout.decode(errors="replace")
