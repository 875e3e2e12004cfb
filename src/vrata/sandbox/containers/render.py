"""A pod's container as a configuration of the OCI runtime (runtime specification 1.0.2): config.json of its bundle.

Pure: what the machine has comes as `Machine`, where things lie as `Place`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vrata.base.errors import InvalidInput
from vrata.sandbox.containers.model import Image, parse_quantity
from vrata.sandbox.kubelet.model import Container, Pod, expand

Json = dict[str, Any]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What a container gets that does not say otherwise, as of containerd and Docker.
CAPABILITIES = ("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
                "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT")  # fmt: skip
MASKED = ("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
          "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware")  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
CPU_PERIOD_US, CPU_QUOTA_MIN_US = 100_000, 1_000
TMPFS = ["nosuid", "noexec", "nodev"]


@dataclass(frozen=True)
class Machine:
    """What the machine can do: its cgroup controllers, and the capabilities that its root has."""

    controllers: frozenset[str]
    capabilities: frozenset[str]  # without CAP_


@dataclass(frozen=True)
class Place:
    """Where one container's things are. `volumes` has the pod's volumes by name; `files` goes over files of the image."""

    root: str
    cgroup: str
    netns: str  # a path; empty: the runtime's own
    volumes: Mapping[str, str]
    files: Mapping[str, str]


def render_runtime(
    pod: Pod, container: Container, image: Image, environment: Mapping[str, str], place: Place, machine: Machine
) -> Json:
    """config.json; InvalidInput for what the pod asks for and cannot have."""
    context = container.security_context
    capabilities = [f"CAP_{name}" for name in plan_capabilities(container, machine)]
    user, group = plan_user(pod, container, image)
    own = pod.spec.security_context
    groups = sorted({*own.supplemental_groups, *([own.fs_group] if own.fs_group is not None else [])})
    namespaces: list[Json] = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]
    if place.netns:
        namespaces.append({"type": "network", "path": place.netns})
    return {
        "ociVersion": "1.0.2",
        "hostname": pod.metadata.name,
        "root": {"path": place.root, "readonly": context.read_only_root_filesystem},
        "process": {
            "terminal": False,
            "user": {"uid": user, "gid": group, "additionalGids": groups},
            "args": plan_command(container, image, environment),
            "env": [f"{name}={value}" for name, value in environment.items()],
            "cwd": container.working_dir or image.working_dir or "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            "noNewPrivileges": not (context.allow_privilege_escalation or context.privileged),
        },
        "mounts": [*_system_mounts(), *_mounts(container, place)],
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": place.cgroup,
            "resources": plan_resources(container, machine.controllers),
            "maskedPaths": [] if context.privileged else list(MASKED),
            "readonlyPaths": [] if context.privileged else list(READ_ONLY),
        },
    }


def plan_command(container: Container, image: Image, environment: Mapping[str, str]) -> list[str]:
    """The words of the command: a pod's `command` is in place of entry point and command of the image."""
    values = dict(environment)
    command, args = list(container.command), list(container.args)
    words = [expand(word, values) for word in command] or list(image.entrypoint)
    words += [expand(word, values) for word in args] or ([] if command else list(image.command))
    if not words:
        raise InvalidInput("command", "", "the image has no command of its own; give one")
    return words


def plan_environment(image: Image, fixed: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """The image's variables, those of every pod, then the container's own."""
    pairs = (entry.partition("=") for entry in image.environment)
    return {"PATH": PATH, **{name: value for name, _, value in pairs}, **fixed, **own}


def plan_user(pod: Pod, container: Container, image: Image) -> tuple[int, int]:
    """User and group: the container's, the pod's, or the image's; InvalidInput if it is root and must not be."""
    own, context = pod.spec.security_context, container.security_context
    user = context.run_as_user if context.run_as_user is not None else own.run_as_user
    group = context.run_as_group if context.run_as_group is not None else own.run_as_group
    if group is None:
        group = image.group if user in (None, image.user) else 0
    if user is None:
        user = image.user
    strict = context.run_as_non_root if context.run_as_non_root is not None else own.run_as_non_root
    if strict and user == 0:
        raise InvalidInput("runAsNonRoot", "true", "the container would run as root; set runAsUser")
    return user, group


def plan_capabilities(container: Container, machine: Machine) -> list[str]:
    """The names without CAP_, in order; InvalidInput for one that this machine does not have."""
    context = container.security_context
    if context.privileged:
        return sorted(machine.capabilities)
    add, drop = ({one.upper().removeprefix("CAP_") for one in names} for names in
                 (context.capabilities.add, context.capabilities.drop))  # fmt: skip
    # As in containerd: ALL first, then the names one by one, so that what is added by name stays.
    found = set(machine.capabilities if "ALL" in add else CAPABILITIES) & machine.capabilities
    found = (set() if "ALL" in drop else found - drop) | (add - {"ALL"})
    if missing := found - machine.capabilities:
        raise InvalidInput("capabilities.add", ", ".join(sorted(missing)), "this machine's root does not have it")
    return sorted(found)


def plan_resources(container: Container, controllers: frozenset[str]) -> Json:
    """Limits of the control group, as far as the machine has a controller for them.

    Requests become no weights: those would count against everything that runs on the machine, not against other pods.
    """
    limits = container.resources.limits
    found: Json = {"devices": [{"allow": False, "access": "rwm"}]}
    if "memory" in controllers and "memory" in limits:
        found["memory"] = {"limit": int(parse_quantity("limits.memory", limits["memory"]))}
    if "cpu" in controllers and "cpu" in limits:
        quota = int(parse_quantity("limits.cpu", limits["cpu"]) * CPU_PERIOD_US)
        found["cpu"] = {"quota": max(quota, CPU_QUOTA_MIN_US), "period": CPU_PERIOD_US}
    return found


def missing_controllers(container: Container, controllers: frozenset[str]) -> list[str]:
    """The limits that the machine cannot hold a container to."""
    return [name for name in ("cpu", "memory") if name in container.resources.limits and name not in controllers]


def _system_mounts() -> list[Json]:
    def mount(destination: str, kind: str, *options: str) -> Json:
        return {"destination": destination, "type": kind, "source": kind, "options": list(options)}

    return [
        mount("/proc", "proc", *TMPFS),
        mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
        mount("/dev/shm", "tmpfs", *TMPFS, "mode=1777", "size=65536k"),  # noqa: S108
        mount("/dev/mqueue", "mqueue", *TMPFS),
        mount("/sys", "sysfs", *TMPFS, "ro"),
    ]


def _mounts(container: Container, place: Place) -> list[Json]:
    """Volumes and files; a directory comes before what is mounted below it."""
    found = [_bind(target, source, read_only=False) for target, source in place.files.items()]
    for mount in container.volume_mounts:
        source = place.volumes.get(mount.name)
        if source is None:
            raise InvalidInput("volumeMounts", mount.name, "the pod has no such volume that the sandbox knows")
        if ".." in mount.sub_path.split("/") or mount.sub_path.startswith("/"):
            raise InvalidInput("subPath", mount.sub_path, "use a path below the volume")
        source += f"/{mount.sub_path}" if mount.sub_path else ""
        found.append(_bind(mount.mount_path, source, read_only=mount.read_only))
    return sorted(found, key=lambda one: one["destination"].rstrip("/").count("/"))


def _bind(destination: str, source: str, *, read_only: bool) -> Json:
    options = ["rbind", "rprivate", *(["ro"] if read_only else [])]
    return {"destination": destination, "type": "bind", "source": source, "options": options}
