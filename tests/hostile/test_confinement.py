"""What somebody who has taken over a tenant's HAProxy is left with: nothing but the connections of that tenant.

Everything is read from the kernel (proc(5)), and tried with the worker's own user and namespaces (nsenter(1)).
"""

import socket
import subprocess
from functools import partial
from pathlib import Path

import msgspec
from tests.support.fabric import wait_until
from tests.support.traffic import prober
from tests.system.host.lab import HOSTS, PORT, VIP, Lab, lab
from tests.system.host.test_gateway import want as want_gateways

from vrata.haproxy.process import HaproxyProcess
from vrata.host.model import EMPTY_DIRECTORY, FIRST_USER_ID, USER_IDS, Record
from vrata.host.parts import CONNTRACKD, HAPROXY, KEEPALIVED
from vrata.net import daemon
from vrata.net.confine import Confinement
from vrata.net.netns import in_namespace

NOTHING: frozenset[int] = frozenset()


# keepalived 2.3 would tell ip(8) the name of its address protocol: nothing of the host's /etc is its business.
_REFUSED_ON_PURPOSE = "/etc/iproute2"
_REFUSED = ("permitted", "denied", "unable", "cannot", "couldn't", "failed to", "[alert]")


def status(pid: int | str) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def capabilities(pid: int | str, kind: str) -> frozenset[int]:
    mask = int(status(pid)[f"Cap{kind}"], 16)
    return frozenset(number for number in range(64) if mask >> number & 1)


def namespace(pid: int | str, kind: str) -> str:
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())


def worker(it: Lab, host: str) -> int:
    return daemon.children(it.pid(host, "haproxy"))[-1]


def record(it: Lab, host: str) -> Record:
    return msgspec.json.decode((it.instance_dir(host) / "record.json").read_bytes(), type=Record)


def is_confined(it: Lab, host: str) -> None:
    """The newest worker has a user of its own, no capability, and an empty directory for its root."""
    pid, user = worker(it, host), str(record(it, host).user_id)
    assert status(pid)["Uid"].split() == status(pid)["Gid"].split() == [user] * 4
    assert status(pid)["Groups"] == ""
    assert {kind: capabilities(pid, kind) for kind in ("Eff", "Prm", "Inh", "Amb")} == dict.fromkeys(
        ("Eff", "Prm", "Inh", "Amb"), NOTHING
    )
    assert status(pid)["NoNewPrivs"] == "1"
    root = Path(f"/proc/{pid}/root/")
    assert root.stat().st_ino == (it.instance_dir(host) / EMPTY_DIRECTORY).stat().st_ino
    assert list(root.iterdir()) == []
    assert root.stat().st_mode & 0o077 == 0
    assert root.stat().st_uid == 0


def sees_little(it: Lab, host: str, pid: int) -> None:
    """Of the host's files: its own directory, and programs that it cannot change."""
    root = Path(f"/proc/{pid}/root")
    for secret in (Path("/etc/shadow"), Path("/root"), Path("/run/netns"), it.state_dir(host) / "desired.json"):
        assert secret.exists()
        assert not (root / secret.relative_to("/")).exists()
    writable = [line.split()[4] for line in mounts(pid) if "ro" not in line.split()[5].split(",")]
    assert writable == [str(it.instance_dir(host))]


def mounts(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/mountinfo").read_text().splitlines()


async def test_the_daemons_of_a_pair_have_what_they_need_and_nothing_else(short_path: Path) -> None:
    async with lab("conf", short_path) as it:
        await it.want_pair()
        await it.settle()
        for host in HOSTS:
            is_confined(it, host)
            master = it.pid(host, "haproxy")
            kept = HAPROXY & capabilities("self", "Bnd")  # nobody gives away what this machine keeps back
            assert capabilities(master, "Eff") == capabilities(master, "Bnd") == kept
            for pid in (master, worker(it, host)):
                assert capabilities(pid, "Bnd") == kept
                assert (status(pid)["NoNewPrivs"], status(pid)["Seccomp"]) == ("1", "2")
            speakers = [it.pid(host, "keepalived"), *daemon.children(it.pid(host, "keepalived"))]
            assert len(speakers) == 2
            for pid in speakers:
                assert capabilities(pid, "Eff") == capabilities(pid, "Bnd") == KEEPALIVED
                assert (status(pid)["NoNewPrivs"], status(pid)["Seccomp"]) == ("1", "2")
                sees_little(it, host, pid)
        assert record(it, HOSTS[0]).user_id != record(it, HOSTS[1]).user_id
        assert all(FIRST_USER_ID <= (record(it, host).user_id or 0) < FIRST_USER_ID + USER_IDS for host in HOSTS)
        for kind in ("mnt", "pid"):
            names = {namespace(worker(it, host), kind) for host in HOSTS}
            assert len(names | {namespace("self", kind)}) == 3


async def test_a_worker_that_was_taken_over_reaches_nothing_of_the_host_or_of_others(short_path: Path) -> None:
    async with lab("taken", short_path) as it:
        await it.want_pair()
        await it.settle()
        mine, other = (worker(it, host) for host in HOSTS)
        user = str(record(it, HOSTS[0]).user_id)

        def attempt(script: str, *, namespaces: bool, root: bool = False) -> subprocess.CompletedProcess[str]:
            """As the worker's user (or as root, as the master is), in its namespaces or, worse, in the host's."""
            argv = ["nsenter", "-t", str(mine), "--net", *(["--mount", "--pid"] if namespaces else [])]
            argv += [] if root else ["-S", user, "-G", user]
            return subprocess.run([*argv, "/bin/sh", "-c", script], capture_output=True, text=True, check=False)

        # What it could see and signal if it came out of its empty directory.
        seen = attempt("ls / /etc /dev; ls /proc; cat /etc/shadow", namespaces=True, root=True)
        assert not {"proc", "sys", "root", "home", "shadow", "netns", "kmsg"} & set(seen.stdout.split())
        for path in (it.instance_dir(HOSTS[1]), it.state_dir(HOSTS[0]) / "desired.json", "/run/netns", "/root"):
            assert attempt(f"ls {path}", namespaces=True, root=True).returncode
        assert attempt(f"kill -0 {other}", namespaces=True, root=True).returncode
        assert attempt("touch /x /usr/x /etc/x /usr/sbin/haproxy", namespaces=True, root=True).returncode
        # What its user may do even with the host's files and processes before it.
        for victim in (other, it.pid(HOSTS[0], "haproxy"), it.pid(HOSTS[0], "keepalived")):
            assert "not permitted" in attempt(f"kill -0 {victim}", namespaces=False).stderr
        for host in HOSTS:
            for name in ("stats.sock", "haproxy.cfg", "applied.json", EMPTY_DIRECTORY):
                path = it.instance_dir(host) / name
                assert path.exists()
                assert "denied" in attempt(f"ls {path}/", namespaces=False).stderr
        assert attempt("ip link set lo down", namespaces=False).returncode
        assert attempt("nft flush ruleset", namespaces=False).returncode


async def test_what_an_older_version_runs_as_root_is_adopted_and_confined_at_its_next_reload(short_path: Path) -> None:
    async with lab("older", short_path) as it:
        await it.want_pair()
        await it.settle()
        for host in HOSTS:
            await as_before(it, host)
        masters = [it.pid(host, "haproxy") for host in HOSTS]
        for host in HOSTS:
            await it.start_agent(host)
        it.cloud.reports.clear()
        await it.settle()
        await it.answers(it.client, VIP)
        with (
            prober(it.client, VIP, PORT, timeout_s=5.0) as anew,
            prober(it.client, VIP, PORT, keep=True) as kept,
        ):
            await it.want_pair(generation=2, members=("m1", "m2"))
            await it.settle(2)
            assert [it.pid(host, "haproxy") for host in HOSTS] == masters
            assert [status(worker(it, host))["Uid"].split()[0] for host in HOSTS] == ["0", "0"]
            await it.want_pair(generation=3, members=("m1", "m2"), floating=True)
            await it.settle(3)
            assert [it.pid(host, "haproxy") for host in HOSTS] == masters
            for host in HOSTS:
                is_confined(it, host)
            count = len(anew.good)
            await wait_until(lambda: len(anew.good) > count + 20, it.logs)
        assert (anew.failed, kept.failed) == ([], [])


async def test_nothing_that_the_daemons_need_is_refused_at_a_reload(short_path: Path) -> None:
    async with lab("confre", short_path) as it:
        await it.want_pair()
        await it.settle()
        active = it.active()
        haproxy = HaproxyProcess(it.instance_dir(active), it.netns(active))
        stays = in_namespace(it.client.netns, partial(socket.create_connection, (VIP, PORT)))
        stays.sendall(b"GET / HTTP/1.1\r\n")
        for generation, floating in ((2, True), (3, False)):
            await it.want_pair(generation=generation, floating=floating)
            await it.settle(generation)
            for host in HOSTS:
                is_confined(it, host)
        with stays:  # the first worker serves on for it, and is asked by the process id that its master knows
            older = await haproxy.older_statistics()
            assert [row["scur"] for row in older if row["pxname"] == "listener-1"] == ["1"]
        for host in HOSTS:
            for name in ("keepalived.log", "haproxy.log"):
                said = (it.instance_dir(host) / name).read_text().splitlines()
                assert any("Reload" in line for line in said)
                needed = [line for line in said if _REFUSED_ON_PURPOSE not in line]
                assert not [line for line in needed if any(one in line.lower() for one in _REFUSED)]


async def as_before(it: Lab, host: str) -> None:
    """The host's instance as a version without confinement left it: HAProxy is root, and its record names no user."""
    await it.kill_agent(host)
    directory = it.instance_dir(host)
    haproxy = HaproxyProcess(directory, it.netns(host))
    await haproxy.stop()
    lines = haproxy.config_path.read_text().splitlines(keepends=True)
    confining = [line for line in lines if line.split()[:1] in (["chroot"], ["uid"], ["gid"])]
    assert len(confining) == 3
    haproxy.write_config("".join(line for line in lines if line not in confining))
    known = msgspec.json.decode((directory / "record.json").read_bytes())
    del known["user_id"]
    (directory / "record.json").write_bytes(msgspec.json.encode(known))
    (directory / EMPTY_DIRECTORY).rmdir()
    await haproxy.start()


async def test_conntrackd_may_change_the_network_of_its_instance_and_nothing_else(short_path: Path) -> None:
    async with lab("confct", short_path) as it:
        await want_gateways(it)
        await it.settle()
        for host in HOSTS:
            pid = it.pid(host, "conntrackd")
            assert capabilities(pid, "Eff") == capabilities(pid, "Bnd") == CONNTRACKD
            assert (status(pid)["NoNewPrivs"], status(pid)["Seccomp"]) == ("1", "2")
            sees_little(it, host, pid)


_TRY = """
import ctypes, os, socket, threading
libc = ctypes.CDLL(None, use_errno=True)
def tried(name, result):
    print(name, "done" if result >= 0 else os.strerror(ctypes.get_errno()))
thread = threading.Thread(target=lambda: print("thread", "done"))
thread.start()
thread.join()  # or its words and others' would mix
tried("unshare", libc.unshare(0x10000000))
tried("mount", libc.mount(b"x", b"/", b"tmpfs", 0, None))
tried("ptrace", libc.ptrace(16, 1, 0, 0))
tried("clone", libc.syscall(56 if os.uname().machine == "x86_64" else 220, 0x10000000 | 17, 0, 0, 0, 0))
for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET, socket.AF_ALG, 40):
    tried(f"family-{int(family)}", libc.socket(int(family), 2, 0))
tried("family-high", libc.syscall(41 if os.uname().machine == "x86_64" else 198, (1 << 32) | 16, ctypes.c_long(2), 0))
"""


async def test_calls_and_sockets_that_it_has_no_use_for_are_refused(tmp_path: Path) -> None:
    families = frozenset({socket.AF_UNIX, socket.AF_INET, socket.AF_INET6})
    log = tmp_path / "log"
    started = daemon.spawn(
        ["/usr/bin/python3", "-c", _TRY],
        log=log,
        confinement=Confinement(frozenset(), families, tmp_path, own_pids=True),
    )
    assert await daemon.wait(started) == 0, log.read_text()
    said = dict(line.split(" ", 1) for line in log.read_text().splitlines())
    done = {name for name, result in said.items() if result == "done"}
    assert done == {"thread", "family-1", "family-2", "family-10"}
    assert len(said) == 13
