"""runc and mounts: everything that is done to a container, by its id. Each step may be repeated.

A container's root is an overlay over the unpacked image, so that nothing that a container or the runtime writes reaches
the image. Containers of one node are recorded by runc itself below one directory, mounts by the kernel.
"""

import asyncio
import json
import os
import shutil
from pathlib import Path

import msgspec

from vrata.base.errors import VrataError
from vrata.net.command import CommandFailed, run
from vrata.sandbox.containers.render import Json, Machine

CGROUPS = Path("/sys/fs/cgroup")
CAPABILITY_NAMES = (  # by their bit (linux/capability.h)
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip


class Runtime:
    """The containers of one node; `directory` is runc's own record of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def command(self, *words: str) -> tuple[str, ...]:
        """A command line of runc for these containers."""
        return ("runc", "--root", str(self.directory), *words)

    def run_command(self, name: str, bundle: Path) -> tuple[str, ...]:
        """The command that runs the bundle and ends with its exit status; the container is kept until `remove`."""
        log = ("--log", str(bundle / "runc.log"), "--log-format", "json")
        return self.command(*log, "run", "--keep", "--bundle", str(bundle), name)

    async def prepare(self, bundle: Path, image_root: Path, config: Json) -> None:
        """A fresh bundle: the overlay over the image, and the configuration."""
        await unmount_below(bundle)
        shutil.rmtree(bundle, ignore_errors=True)
        for folder in ("rootfs", "upper", "work"):
            (bundle / folder).mkdir(parents=True)
        layers = f"lowerdir={image_root},upperdir={bundle / 'upper'},workdir={bundle / 'work'}"
        await run("mount", "-t", "overlay", "-o", layers, "overlay", str(bundle / "rootfs"))
        (bundle / "config.json").write_bytes(msgspec.json.encode(config))

    async def kill(self, name: str) -> None:
        """End every process of the container."""
        await self._quietly("kill", "--all", name, "KILL")

    async def remove(self, name: str) -> None:
        """End the container and remove its control groups and its record; one that is not there is fine."""
        if (self.directory / name).exists():
            await self._quietly("delete", "--force", name)

    async def _quietly(self, *words: str) -> None:
        try:
            await run(*self.command(*words))
        except CommandFailed as error:
            if "does not exist" not in error.stderr:
                raise

    def names(self, prefix: str = "") -> list[str]:
        """Containers that are recorded."""
        return sorted(file.name for file in self.directory.glob(f"{prefix}*") if file.is_dir())


def start_error(bundle: Path) -> str:
    """Why runc could not start the container of this bundle; empty if it could."""
    try:
        lines = (bundle / "runc.log").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry.get("level") == "error":
            return str(entry.get("msg", ""))
    return ""


def was_out_of_memory(cgroup: str) -> bool:
    """Whether the kernel ended a process of this control group because of its memory limit."""
    name = cgroup.strip("/")
    for file in (CGROUPS / "memory" / name / "memory.oom_control", CGROUPS / name / "memory.events"):
        try:
            rows = dict(line.split() for line in file.read_text().splitlines())
        except OSError:
            continue
        return int(rows.get("oom_kill", 0)) > 0
    return False


def observe_machine() -> Machine:
    """Controllers of control groups that can be written to, and root's capabilities (proc(5), CapBnd)."""
    try:
        controllers = set((CGROUPS / "cgroup.controllers").read_text().split())
    except OSError:
        controllers = {name for name in ("cpu", "memory") if os.access(CGROUPS / name, os.W_OK)}
    status = Path("/proc/self/status").read_text()
    bits = int(next(line for line in status.splitlines() if line.startswith("CapBnd:")).split()[1], 16)
    found = {name for bit, name in enumerate(CAPABILITY_NAMES) if bits >> bit & 1}
    return Machine(frozenset(controllers), frozenset(found))


def mounts_below(directory: Path) -> list[str]:
    """Mount points below a directory, the last one first (proc(5), /proc/PID/mountinfo)."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if Path(point).is_relative_to(directory.resolve()):
            found.append(point)
    return found[::-1]


async def unmount_below(directory: Path) -> None:
    """Unmount everything below a directory."""
    for point in mounts_below(directory):
        await run("umount", "--lazy", point)


async def remove_all(root: Path) -> None:
    """Remove containers and mounts of a whole sandbox, as they are recorded below its directory."""
    runtimes = [Runtime(folder) for folder in root.glob("state/kubelet-*/runc")]
    await asyncio.gather(*(runtime.remove(name) for runtime in runtimes for name in runtime.names()))
    await unmount_below(root)


def check_installed() -> None:
    """Raise with the package to install if containers cannot be run here."""
    if not shutil.which("runc", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
        raise VrataError("not installed: runc", remedy="apt-get install runc")
