"""Confines the calling thread for good, and with it every process that it starts: capabilities, calls, files, processes.

Capabilities, no_new_privs, seccomp filters and namespaces belong to a thread and are inherited by what it starts
(capabilities(7), seccomp(2), namespaces(7)). So `vrata.net.daemon` confines a thread of its own and starts the daemon
from there: no program runs in between, and the daemon's process id and start time are what they would be without.

In a PID namespace the daemon is process 1: what it starts ends with it, and sees and signals nothing outside.
"""

import ctypes
import errno
import functools
import os
import socket
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from vrata.base.errors import VrataError

_CLONE_NEWNS, _CLONE_NEWPID = 0x00020000, 0x20000000
# time(7) aside, whose flag clone(2) does not know: mount, cgroup, uts, ipc, user, pid, net
_CLONE_NEW = (_CLONE_NEWNS, 0x02000000, 0x04000000, 0x08000000, 0x10000000, _CLONE_NEWPID, 0x40000000)
_MS_BIND, _MS_REC, _MS_PRIVATE, _MNT_DETACH = 4096, 16384, 1 << 18, 2
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID, _AT_FDCWD, _AT_RECURSIVE = 1, 2, -100, 0x8000
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 23, 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_SPEC_ALLOW = 1, 4
_SCMP_ACT_ALLOW, _SCMP_ACT_ERRNO, _SCMP_CMP_EQ, _SCMP_CMP_GT, _SCMP_CMP_MASKED_EQ = 0x7FFF0000, 0x00050000, 4, 6, 7
_SCMP_FLTATR_CTL_OPTIMIZE, _BINARY_TREE = 8, 2
_BPF_INSTRUCTION = 8  # bytes

# What no daemon of ours needs, and what faults of the kernel have been reached through (systemd.exec(5) has such sets).
_REFUSED_CALLS = (
    *("mount", "umount2", "pivot_root", "fsopen", "fsmount", "fsconfig", "fspick", "move_mount", "open_tree"),
    *("mount_setattr", "unshare", "setns", "open_by_handle_at", "name_to_handle_at", "quotactl", "acct"),
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff"),
    *("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp", "lookup_dcookie"),
    *("perf_event_open", "bpf", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("add_key", "request_key", "keyctl", "iopl", "ioperm", "modify_ldt", "syslog", "vhangup", "fanotify_init"),
    *("adjtimex", "clock_adjtime", "clock_settime", "settimeofday"),
)
# Of the system's files, what a dynamically linked program and OpenSSL read: no keys, no passwords.
_SYSTEM_FILES = tuple(
    Path(path)
    for path in (
        *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"),
        *("/etc/ld.so.cache", "/etc/localtime", "/etc/ssl/certs", "/etc/ssl/openssl.cnf"),
        *("/dev/null", "/dev/random", "/dev/urandom"),
    )
)


class Capability(IntEnum):
    """The capabilities that daemons of ours keep (capabilities(7))."""

    KILL = 5
    SETGID = 6
    SETUID = 7
    NET_BIND_SERVICE = 10
    NET_BROADCAST = 11
    NET_ADMIN = 12
    NET_RAW = 13
    SYS_CHROOT = 18
    SYS_NICE = 23
    SYS_RESOURCE = 24


@dataclass(frozen=True)
class Confinement:
    """What a daemon is left with. The defaults take nothing but capabilities and system calls.

    `families`: of the sockets that it may open; None: any. `directory`: the one that it may write to, and with the
    system's programs and what is `readable` all that it sees; None: everything. `own_pids`: in a PID namespace of its
    own.
    """

    capabilities: frozenset[Capability]
    families: frozenset[socket.AddressFamily] | None = None
    directory: Path | None = None
    readable: tuple[Path, ...] = ()
    own_pids: bool = False


def confine_thread(confinement: Confinement, program: Path) -> None:
    """Confine the calling thread, which must end soon; OSError or VrataError if it cannot be.

    `program` stays visible with the directory that it is in.
    """
    rules = _seccomp_rules(confinement.families)
    if confinement.directory:
        readable = (*_SYSTEM_FILES, *confinement.readable, program.parent, program.resolve().parent)
        _see_only(confinement.directory, readable)
    if confinement.own_pids:
        _call("unshare", _CLONE_NEWPID)
    _keep_capabilities(confinement.capabilities)
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _load_seccomp(rules)


def _keep_capabilities(kept: frozenset[Capability]) -> None:
    """Reduce the bounding set: what a program that root executes gets."""
    _call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    number = 0
    while _libc().prctl(_PR_CAPBSET_READ, number, 0, 0, 0) >= 0:
        if number not in kept:
            _call("prctl", _PR_CAPBSET_DROP, number, 0, 0, 0)
        number += 1


def _see_only(directory: Path, readable: tuple[Path, ...]) -> None:
    """Move into a mount namespace whose root, a file system in memory, has only these, and one directory to write to.

    The root is laid over `directory` for a moment, in the new namespace only. What is read again later by name, as a
    program that has been upgraded, is found, since directories are bound and not copied.
    """
    _call("unshare", _CLONE_NEWNS)
    _mount(None, Path("/"), None, _MS_REC | _MS_PRIVATE)
    kept = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        root = directory
        _mount("root", root, "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "mode=755,size=64k")
        for path in readable:
            _show(root, path)
        attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID, 0, 0, 0)
        target = _below(root, directory)
        target.mkdir(parents=True, exist_ok=True)
        _syscall("mount_setattr", _AT_FDCWD, os.fsencode(root), _AT_RECURSIVE, attributes, ctypes.sizeof(attributes))
        _mount(f"/proc/self/fd/{kept}", target, None, _MS_BIND)
        os.chdir(root)
        _syscall("pivot_root", b".", b".")
        _call("umount2", b".", _MNT_DETACH)
        os.chdir("/")
    finally:
        os.close(kept)


def _show(root: Path, path: Path) -> None:
    target = _below(root, path)
    if any(parent.is_symlink() for parent in (target, *target.parents) if parent != root and root in parent.parents):
        return  # /bin/x, where /bin is a link to what is shown already
    if target.exists() and target.stat().st_dev != root.stat().st_dev:
        return  # inside what is shown already
    if path.is_symlink() and not path.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path.readlink())
    elif path.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        _mount(str(path), target, None, _MS_BIND | _MS_REC)
    elif path.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
        _mount(str(path), target, None, _MS_BIND)


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _mount(source: str | None, target: Path, kind: str | None, flags: int, options: str | None = None) -> None:
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    _call("mount", *words, flags, None if options is None else os.fsencode(options))


class _Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp` (seccomp_rule_add(3))."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


@functools.cache
def _seccomp_rules(families: frozenset[socket.AddressFamily] | None) -> bytes:
    """A filter for seccomp(2) that refuses what no daemon needs, and sockets of other families.

    What is refused fails with EPERM, as it does for whoever has no right to it. clone3(2) hides its flags from filters:
    the C library takes clone(2) where it is missing.
    """
    library = _seccomp()
    context = ctypes.c_void_p(library.seccomp_init(_SCMP_ACT_ALLOW))
    try:
        library.seccomp_attr_set(context, _SCMP_FLTATR_CTL_OPTIMIZE, _BINARY_TREE)
        for name in _REFUSED_CALLS:
            _refuse(context, name, errno.EPERM)
        _refuse(context, "clone3", errno.ENOSYS)
        for flag in _CLONE_NEW:
            _refuse(context, "clone", errno.EPERM, _Comparison(0, _SCMP_CMP_MASKED_EQ, flag, flag))
        if families is not None:
            for family in set(range(max(families))) - families:
                _refuse(context, "socket", errno.EAFNOSUPPORT, _Comparison(0, _SCMP_CMP_EQ, family, 0))
            _refuse(context, "socket", errno.EAFNOSUPPORT, _Comparison(0, _SCMP_CMP_GT, max(families), 0))
        descriptor = os.memfd_create("seccomp")
        try:
            _checked("seccomp_export_bpf", library.seccomp_export_bpf(context, descriptor))
            return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        finally:
            os.close(descriptor)
    finally:
        library.seccomp_release(context)


def _refuse(context: ctypes.c_void_p, name: str, error: int, *comparisons: _Comparison) -> None:
    number = _number(name)
    if number < 0:  # not on this machine, or newer than the library
        return
    wanted = (_Comparison * len(comparisons))(*comparisons)
    result = _seccomp().seccomp_rule_add_array(context, _SCMP_ACT_ERRNO | error, number, len(comparisons), wanted)
    _checked(f"seccomp_rule_add {name}", result)


def _load_seccomp(rules: bytes) -> None:
    """The calling thread's own filter. Without a mitigation that would slow down what runs nobody else's programs."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    program = Program(len(rules) // _BPF_INSTRUCTION, rules)
    _syscall("seccomp", _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_SPEC_ALLOW, ctypes.byref(program))


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@functools.cache
def _seccomp() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise VrataError("libseccomp.so.2 is missing", remedy="install it: apt-get install libseccomp2") from error
    library.seccomp_init.restype = ctypes.c_void_p
    return library


@functools.cache
def _number(name: str) -> int:
    """The number of a system call on this machine; negative if it has none."""
    return int(_seccomp().seccomp_syscall_resolve_name(name.encode()))


def _call(function: str, *arguments: object) -> None:
    if getattr(_libc(), function)(*_words(arguments)) < 0:
        raise OSError(ctypes.get_errno(), f"{function}: {os.strerror(ctypes.get_errno())}")


def _syscall(name: str, *arguments: object) -> None:
    if _libc().syscall(*_words((_number(name), *arguments))) < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _words(arguments: tuple[object, ...]) -> list[object]:
    return [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]


def _checked(what: str, result: int) -> None:
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
