"""Machines that boot: Debian's own systemd as init in systemd-nspawn, on two networks, as many as a test wants.

All of it lives in the namespaces of `tools/isolated`, which `tools/test-machines` starts: the kernel ends the machines with it.
Their root file systems are overlays on the one of `tools/machine-root`, so that a machine costs a second and its changes go.

    test machine 10.20.0.1 -- br-mgmt --- host0      of each machine: 10.20.0.11, .12, …
                203.0.113.1 - br-prov --- provider0  of each machine, without an address
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOTS = Path(os.environ.get("VRATA_MACHINES", "/var/cache/vrata/machines"))
RUN_S = 300.0  # bound of one command; no assertion
BOOT_S = 120.0
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}  # fmt: skip
NETWORKS = {"br-mgmt": "10.20.0.1/24", "br-prov": "203.0.113.1/24"}
_HOST0 = "[Match]\nName=host0\n[Network]\nAddress={address}/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"


def debs() -> list[Path]:
    """The packages of `make deb`: vrata, vrata-cloud, vrata-host."""
    return sorted((ROOT / "dist").glob("vrata*.deb"))


class Machine:
    """One machine. `boot` and `power_off` may follow each other as often as one likes; the disk stays."""

    def __init__(self, directory: Path, name: str, suite: str, number: int) -> None:
        self.name, self.suite, self.address = name, suite, f"10.20.0.{10 + number}"
        self.root = directory / name / "root"
        self._log = directory / name / "console"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        parts = [directory / name / part for part in ("changes", "work")]
        for part in (*parts, self.root):
            part.mkdir(parents=True)
        options = f"lowerdir={ROOTS / f'{suite}-machine'},upperdir={parts[0]},workdir={parts[1]}"
        subprocess.run(["mount", "-t", "overlay", "-o", options, name, self.root], check=True)
        self._prepare()

    def _prepare(self) -> None:
        """What an installed machine has: a name, an address, no known machine id of the others."""
        network = self.root / "etc/systemd/network"
        network.mkdir(parents=True, exist_ok=True)
        (network / "10-management.network").write_text(_HOST0.format(address=self.address))
        (self.root / "etc/hostname").write_text(f"{self.name}\n")
        (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        (self.root / "etc/machine-id").write_text("")
        wanted = self.root / "etc/systemd/system/multi-user.target.wants"
        wanted.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (wanted / "systemd-networkd.service").symlink_to("/usr/lib/systemd/system/systemd-networkd.service")

    def trust(self, everybody: Sequence["Machine"], key: Path) -> None:
        """Let root of all machines, and whoever has the key, in by ssh; know their names and addresses."""
        home = self.root / "root/.ssh"
        home.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(key, home / "id_ed25519")
        shutil.copy(key.with_suffix(".pub"), home / "authorized_keys")
        (home / "known_hosts").write_text(known_hosts(everybody))
        with (self.root / "etc/hosts").open("a") as hosts:
            hosts.writelines(f"{one.address} {one.name}\n" for one in everybody if one is not self)

    def boot(self, *, wait: bool = True) -> None:
        """Start it, and wait until systemd says that everything is up; else until it is reached."""
        assert self._nspawn is None
        for group in _groups(self.name):
            group.mkdir(parents=True, exist_ok=True)
        joined = "".join(f"echo $$ >{group}/cgroup.procs; " for group in _groups(self.name))
        command = [
            "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", f"--directory={self.root}", f"--machine={self.name}",
            "--network-bridge=br-mgmt", f"--network-veth-extra=pv-{self.name}:provider0", "--boot",
        ]  # fmt: skip
        with self._log.open("ab") as log:
            self._nspawn = subprocess.Popen(
                ["sh", "-c", f'{joined}exec "$@"', "sh", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._wait(self._find_leader, "has an init")
        subprocess.run(["ip", "link", "set", f"pv-{self.name}", "master", "br-prov", "up"], check=True)
        if not wait:
            self._wait(lambda: self.state() in {"starting", "running", "degraded"}, "has begun to boot")
            return
        self._wait(lambda: self.state() in {"running", "degraded"}, "has booted")
        assert self.state() == "running", self.run(
            "systemctl --failed --no-legend; journalctl -b -p 4 --no-pager | tail -40"
        )

    def state(self) -> str:
        """What `systemctl is-system-running` says."""
        return self.run("systemctl is-system-running", check=False).strip()

    def _find_leader(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, self.console()
        pid = self._nspawn.pid
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self._leader = int(words[0]) if words else 0
        links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
        if not self._leader or f" pv-{self.name}@" not in links:  # /sys shows another namespace's
            return False
        return Path(f"/proc/{self._leader}/comm").read_text().strip() == "systemd"

    def _wait(self, ready: object, what: str) -> None:
        assert callable(ready)
        deadline = time.monotonic() + BOOT_S
        while not ready():
            assert time.monotonic() < deadline, f"{self.name} never {what}:\n{self.console()}"
            time.sleep(0.1)

    def console(self) -> str:
        """The end of what the machine has written to its console."""
        return self._log.read_text(errors="replace")[-4000:]

    def run(self, script: str, *, check: bool = True, timeout_s: float = RUN_S) -> str:
        """Run commands as root there, as one shell would; what they print, errors too. AssertionError if one fails."""
        done = self.start(script, stdout=subprocess.PIPE)
        try:
            out, _ = done.communicate(timeout=timeout_s)
        finally:
            done.kill()
        text = str(out)
        assert not check or done.returncode == 0, f"{self.name}: exit status {done.returncode} of:\n{script}\n{text}"
        return text

    def start(self, script: str, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """The same without waiting."""
        inside = [
            "nsenter",
            f"--target={self._leader}",
            "--all",
            "bash",
            "-euo",
            "pipefail",
            "-c",
            f"cd /root\n{script}",
        ]
        return subprocess.Popen(
            inside, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.STDOUT, text=True
        )

    def copy(self, *files: Path, to: str = "/root") -> None:
        """Put files there."""
        for file in files:
            shutil.copy(file, self.root / to.lstrip("/"))

    def power_off(self) -> None:
        """As when the plug is pulled: the kernel ends every process at once. Nothing is flushed that was not."""
        if self._nspawn is None:
            return
        if self._leader:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._leader, signal.SIGKILL)
        try:
            self._nspawn.wait(30)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
        self._nspawn, self._leader = None, 0

    def reboot(self) -> None:
        """An orderly one: systemd ends what runs, then the machine starts anew."""
        assert self._nspawn is not None
        self.run("systemctl poweroff", check=False)
        self._nspawn.wait(BOOT_S)
        self._nspawn, self._leader = None, 0
        self.boot()


def known_hosts(everybody: Sequence[Machine]) -> str:
    """Lines of ssh's known_hosts."""
    keys = {one: (one.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split() for one in everybody}
    return "".join(f"{one.name},{one.address} {key[0]} {key[1]}\n" for one, key in keys.items())


def _groups(name: str) -> list[Path]:
    """A control group of its own for each machine, in each hierarchy that systemd uses; the script removes them."""
    top = Path("/sys/fs/cgroup")
    places = [top / one for one in ("systemd", "unified") if (top / one).is_dir()] or [top]
    return [place / os.environ["VRATA_MACHINES_GROUP"] / name for place in places]


@contextlib.contextmanager
def machines(directory: Path, suite: str, names: Sequence[str]) -> Iterator[list[Machine]]:
    """Booted machines; at the end they are switched off and their file systems unmounted."""
    for number, (bridge, address) in enumerate(NETWORKS.items()):
        # A bridge without an address of its own changes it when a port leaves, and neighbours lose it for seconds.
        mac = f"02:00:00:00:00:{number:02x}"
        subprocess.run(["ip", "link", "add", bridge, "address", mac, "type", "bridge"], check=True)
        subprocess.run(["ip", "address", "add", address, "dev", bridge], check=True)
        subprocess.run(["ip", "link", "set", bridge, "up"], check=True)
    made: list[Machine] = []
    key = directory / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    try:
        made += [Machine(directory, name, suite, number) for number, name in enumerate(names, 1)]
        for machine in made:
            machine.trust(made, key)
            machine.boot()
        yield made
    finally:
        for machine in made:
            machine.power_off()
            subprocess.run(["umount", "--lazy", machine.root], check=True)
        for bridge in NETWORKS:
            subprocess.run(["ip", "link", "delete", bridge], check=True)
