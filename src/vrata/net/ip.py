"""Namespaces, links, addresses and routes through iproute2.

A change is a list of `ip` command lines without the leading `ip`, applied in one process by `ip -batch`
(ip(8)); it stops at the first line that fails, and every caller's lines are safe to repeat from the beginning.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from vrata.base.errors import VrataError
from vrata.net.command import NETNS_DIR, CommandFailed, run
from vrata.net.netns import in_namespace


async def batch(lines: Iterable[str], netns: str | None = None, *, family: str = "") -> None:
    """Apply `ip` command lines in order; CommandFailed names the line that failed.

    `family`: `-6` for lines whose family `ip` does not see by itself, those with policy rules.
    """
    text = "\n".join(lines)
    if text:
        await run("ip", *([family] if family else []), "-batch", "-", netns=netns, stdin=text + "\n")


async def query(*argv: str, netns: str | None = None) -> list[dict[str, Any]]:
    """What `ip -json ARGV` reports, e.g. `query("addr", "show", netns=…)`."""
    answer = await run("ip", "-json", *argv, netns=netns)
    found: list[dict[str, Any]] = json.loads(answer or "[]")
    return [entry for entry in found if entry]


def list_namespaces() -> frozenset[str]:
    """Names of the namespaces that exist."""
    return frozenset(entry.name for entry in NETNS_DIR.iterdir()) if NETNS_DIR.is_dir() else frozenset()


async def add_namespace(name: str, sysctls: dict[str, str] | None = None) -> None:
    """Create a namespace with these sysctls, and loopback up last: what tells a finished one. One that exists is kept."""
    if name not in list_namespaces():
        await run("ip", "netns", "add", name)
    if sysctls:
        await set_sysctls(sysctls, netns=name)
    await batch(["link set lo up"], netns=name)


async def set_sysctls(sysctls: dict[str, str], netns: str | None = None) -> None:
    """Set kernel parameters of a namespace, in order; VrataError names the one that the kernel refuses.

    Keys as sysctl(8) takes them: with slashes where a part has dots.
    """
    work = partial(_write_sysctls, sysctls)
    await asyncio.to_thread(work if netns is None else partial(in_namespace, netns, work))


def read_sysctls(keys: Iterable[str]) -> dict[str, str]:
    """Those of the parameters that there are, in the current namespace."""
    found = {}
    for key in keys:
        with contextlib.suppress(OSError):
            found[key] = _sysctl_path(key).read_text().strip()
    return found


def restore_sysctls(sysctls: dict[str, str]) -> dict[str, str]:
    """Set those parameters of the current namespace that are there and have other values; what they were."""
    wrong = {key: value for key, value in read_sysctls(sysctls).items() if value != sysctls[key]}
    _write_sysctls({key: sysctls[key] for key in wrong})
    return wrong


def _sysctl_path(key: str) -> Path:
    return Path("/proc/sys") / (key if "/" in key else key.replace(".", "/"))


def _write_sysctls(sysctls: dict[str, str]) -> None:
    for key, value in sysctls.items():
        try:
            _sysctl_path(key).write_text(value)
        except OSError as error:
            raise VrataError(f"sysctl {key}={value}: {error.strerror}") from error


async def delete_namespace(name: str) -> None:
    """Remove a namespace and with it every link in it; one that does not exist is fine."""
    if name in list_namespaces():
        try:
            await run("ip", "netns", "delete", name)
        except CommandFailed:
            if name in list_namespaces():
                raise


def processes_in(netns: str) -> tuple[int, ...]:
    """Process ids whose network namespace is this one (compared by inode, /proc/PID/ns/net)."""
    try:
        wanted = (NETNS_DIR / netns).stat().st_ino
    except FileNotFoundError:
        return ()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "ns/net").stat().st_ino == wanted:
                    found.append(int(entry.name))
            except OSError:  # the process ended, or is a zombie
                continue
    return tuple(found)


def executable_of(pid: int) -> str:
    """File name of the program that a process runs (also of one replaced on disk); empty if it can not be told."""
    try:
        return (Path("/proc") / str(pid) / "exe").readlink().name.removesuffix(" (deleted)")
    except OSError:
        return ""
