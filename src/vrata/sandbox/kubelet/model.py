"""What the kubelet reads of a pod, and what it remembers about one that runs. Field names: core/v1 Pod."""

from collections.abc import Collection
from typing import Any

import msgspec

from vrata.kube.objects import ObjectMeta, Projection


class HttpHeader(Projection, frozen=True):
    name: str
    value: str = ""


class HttpGet(Projection, frozen=True):
    port: int | str
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    http_headers: tuple[HttpHeader, ...] = ()


class TcpSocket(Projection, frozen=True):
    port: int | str
    host: str = ""


class Exec(Projection, frozen=True):
    command: tuple[str, ...] = ()


class Sleep(Projection, frozen=True):
    seconds: int


class Probe(Projection, frozen=True):
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    exec: Exec | None = None
    initial_delay_seconds: int = 0
    period_seconds: int = 10
    timeout_seconds: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3


class LifecycleHandler(Projection, frozen=True):
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    exec: Exec | None = None
    sleep: Sleep | None = None


class Lifecycle(Projection, frozen=True):
    pre_stop: LifecycleHandler | None = None


class FieldRef(Projection, frozen=True):
    field_path: str


class KeySelector(Projection, frozen=True):
    key: str
    name: str = ""
    optional: bool = False


class EnvVarSource(Projection, frozen=True):
    field_ref: FieldRef | None = None
    secret_key_ref: KeySelector | None = None
    config_map_key_ref: KeySelector | None = None


class EnvVar(Projection, frozen=True):
    name: str
    value: str = ""
    value_from: EnvVarSource | None = None


class ContainerPort(Projection, frozen=True):
    container_port: int
    name: str = ""
    protocol: str = "TCP"


class Capabilities(Projection, frozen=True):
    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class SecurityContext(Projection, frozen=True):
    """Of a container that is a process of this machine only capabilities and privileges are kept."""

    capabilities: Capabilities = Capabilities()
    allow_privilege_escalation: bool = True
    privileged: bool = False
    read_only_root_filesystem: bool = False
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None


class PodSecurityContext(Projection, frozen=True):
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    fs_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()


class VolumeMount(Projection, frozen=True):
    name: str
    mount_path: str
    read_only: bool = False
    sub_path: str = ""


class Resources(Projection, frozen=True):
    limits: dict[str, str | int | float] = {}


class KeyToPath(Projection, frozen=True):
    key: str
    path: str
    mode: int | None = None


class FileSource(Projection, frozen=True):
    """A Secret (`secretName` as a volume of its own, `name` as a part of another) or a ConfigMap, as files."""

    name: str = ""
    secret_name: str = ""
    items: tuple[KeyToPath, ...] = ()
    default_mode: int = 0o644
    optional: bool = False


class DownwardFile(Projection, frozen=True):
    path: str
    field_ref: FieldRef | None = None


class DownwardSource(Projection, frozen=True):
    items: tuple[DownwardFile, ...] = ()


class TokenSource(Projection, frozen=True):
    path: str
    audience: str = ""
    expiration_seconds: int = 3600


class ProjectedPart(Projection, frozen=True):
    secret: FileSource | None = None
    config_map: FileSource | None = None
    downward_api: DownwardSource | None = msgspec.field(name="downwardAPI", default=None)
    service_account_token: TokenSource | None = None


class ProjectedSource(Projection, frozen=True):
    sources: tuple[ProjectedPart, ...] = ()
    default_mode: int = 0o644


class EmptyDir(Projection, frozen=True):
    medium: str = ""
    size_limit: str | int = ""


class Volume(Projection, frozen=True):
    name: str
    empty_dir: EmptyDir | None = None
    secret: FileSource | None = None
    config_map: FileSource | None = None
    downward_api: DownwardSource | None = msgspec.field(name="downwardAPI", default=None)
    projected: ProjectedSource | None = None


class Container(Projection, frozen=True):
    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    working_dir: str = ""
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    security_context: SecurityContext = SecurityContext()
    resources: Resources = Resources()
    volume_mounts: tuple[VolumeMount, ...] = ()

    def port_number(self, port: int | str) -> int:
        """Resolve a port that may be a name; 0 if the container has no such port."""
        if isinstance(port, int):
            return port
        if port.isdigit():
            return int(port)
        return next((entry.container_port for entry in self.ports if entry.name == port), 0)


class PodSpec(Projection, frozen=True):
    containers: tuple[Container, ...] = ()
    node_name: str = ""
    restart_policy: str = "Always"
    service_account_name: str = ""
    termination_grace_period_seconds: int = 30
    host_network: bool = False
    automount_service_account_token: bool = True
    security_context: PodSecurityContext = PodSecurityContext()
    volumes: tuple[Volume, ...] = ()


class PodStatus(Projection, frozen=True):
    phase: str = "Pending"
    pod_ip: str = msgspec.field(name="podIP", default="")


class PodMeta(ObjectMeta, frozen=True):
    deletion_grace_period_seconds: int | None = None


class Pod(Projection, frozen=True):
    metadata: PodMeta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class RunningContainer(msgspec.Struct):
    """One container's process: enough to find it again after the kubelet itself was restarted."""

    pid: int = 0
    start_ticks: int = 0  # /proc/PID/stat field 22: tells a recycled pid apart
    started_at: str = ""
    restarts: int = 0
    ready: bool = False
    exit_code: int | None = None
    finished_at: str = ""
    message: str = ""  # why it waits, if it does
    reason: str = ""  # the word for it, where there is one of its own
    last_exit_code: int | None = None
    last_reason: str = ""  # the word for its last end, where there is one of its own
    image: str = ""  # digest of the image it runs from; empty: a process of this machine


class RunningPod(msgspec.Struct):
    """One pod on this node, as written to the kubelet's state directory before anything of it is created."""

    uid: str
    key: str
    netns: str  # empty: the node's own (hostNetwork)
    link: str
    address: str
    tmp: str  # the pod's own temporary folder
    containers: dict[str, RunningContainer] = {}
    started_at: str = ""


def expand(text: str, env: dict[str, str]) -> str:
    """Replace `$(NAME)` by the variable's value, `$$` by `$` (core/v1 Container, `command`)."""
    out: list[str] = []
    rest = text
    while "$" in rest:
        before, _, rest = rest.partition("$")
        out.append(before)
        if rest.startswith("$"):
            out.append("$")
            rest = rest[1:]
        elif rest.startswith("(") and ")" in rest and rest[1 : rest.index(")")] in env:
            name, _, rest = rest[1:].partition(")")
            out.append(env[name])
        else:
            out.append("$")
    return "".join([*out, rest])


def field_value(pod: Pod, path: str, *, address: str, host_address: str) -> str:
    """What the downward API gives for a field path; empty for one it does not know."""
    fixed = {
        "metadata.name": pod.metadata.name,
        "metadata.namespace": pod.metadata.namespace,
        "metadata.uid": pod.metadata.uid,
        "spec.nodeName": pod.spec.node_name,
        "spec.serviceAccountName": pod.spec.service_account_name,
        "status.podIP": address,
        "status.podIPs": address,
        "status.hostIP": host_address,
        "status.hostIPs": host_address,
    }
    if path in fixed:
        return fixed[path]
    for prefix, values in (
        ("metadata.labels", pod.metadata.labels),
        ("metadata.annotations", pod.metadata.annotations),
    ):
        if path.startswith(prefix + "['") and path.endswith("']"):
            return values.get(path[len(prefix) + 2 : -2], "")
    return ""


def is_restarted(policy: str, exit_code: int) -> bool:
    """Whether a container that ended starts again (core/v1 PodSpec, `restartPolicy`)."""
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def pod_phase(policy: str, states: Collection[RunningContainer]) -> str:
    """core/v1 PodStatus, `phase`: a pod has ended only when none of its containers starts again."""
    if any(state.pid for state in states):
        return "Running"
    ended = [state.exit_code for state in states if state.exit_code is not None]
    if not ended or len(ended) < len(states):
        return "Running" if ended or any(state.restarts for state in states) else "Pending"
    if any(is_restarted(policy, code) for code in ended):
        return "Running"
    return "Failed" if any(ended) else "Succeeded"


def container_status(container: Container, running: RunningContainer, policy: str) -> dict[str, Any]:
    """core/v1 ContainerStatus of one container."""
    last: dict[str, Any] = {}
    if running.last_exit_code is not None:
        last = {"terminated": _terminated(running, running.last_exit_code)}
    if running.pid:
        state: dict[str, Any] = {"running": {"startedAt": running.started_at}}
    elif running.exit_code is not None and not is_restarted(policy, running.exit_code):
        state = {"terminated": _terminated(running, running.exit_code)}
    else:
        reason = running.reason or (
            "CrashLoopBackOff"
            if running.restarts or running.exit_code is not None
            else "CreateContainerError"
            if running.message
            else "ContainerCreating"
        )
        state = {"waiting": {"reason": reason, **({"message": running.message} if running.message else {})}}
    return {
        "name": container.name,
        "image": container.image,
        "imageID": running.image or container.image,
        "containerID": f"{'runc' if running.image else 'process'}://{running.pid}" if running.pid else "",
        "ready": bool(running.pid) and running.ready,
        "started": bool(running.pid),
        "restartCount": running.restarts,
        "state": state,
        "lastState": last,
    }


def _terminated(running: RunningContainer, exit_code: int) -> dict[str, Any]:
    return {
        "exitCode": exit_code,
        "reason": running.last_reason or ("Completed" if exit_code == 0 else "Error"),
        "startedAt": running.started_at or None,
        "finishedAt": running.finished_at or None,
    }


def pod_status(pod: Pod, running: RunningPod, host_address: str, now: str) -> dict[str, Any]:
    """core/v1 PodStatus: phase, conditions and container statuses from what runs."""
    states = [running.containers.get(container.name, RunningContainer()) for container in pod.spec.containers]
    ready = bool(states) and all(state.pid and state.ready for state in states)
    phase = pod_phase(pod.spec.restart_policy, states)
    finished = phase in ("Succeeded", "Failed")

    def condition(type_: str, *, true: bool, reason: str = "") -> dict[str, Any]:
        entry: dict[str, Any] = {"type": type_, "status": "True" if true else "False", "lastTransitionTime": now}
        return {**entry, "reason": reason} if reason else entry

    not_ready = "PodCompleted" if finished else "ContainersNotReady"
    return {
        "phase": phase,
        "hostIP": host_address,
        "hostIPs": [{"ip": host_address}],
        "podIP": running.address,
        "podIPs": [{"ip": running.address}],
        "startTime": running.started_at,
        "conditions": [
            condition("PodReadyToStartContainers", true=not finished),
            condition("Initialized", true=True),
            condition("Ready", true=ready, reason="" if ready else not_ready),
            condition("ContainersReady", true=ready, reason="" if ready else not_ready),
            condition("PodScheduled", true=True),
        ],
        "containerStatuses": [
            container_status(container, state, pod.spec.restart_policy)
            for container, state in zip(pod.spec.containers, states, strict=True)
        ],
    }
