"""The life of one pod on this node: network, containers, probes, restarts, the way out.

A container of an image that was given to the sandbox is run by runc; that of the echo server, and any command where no
image was given, is a process of this machine in the pod's network.

Everything that exists is recorded in the state file before it is made, so that a kubelet that was killed adopts what
runs and removes what should not. Container processes are children of nobody in particular: they survive the kubelet.
"""

import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import msgspec
import structlog

from vrata.base import clock
from vrata.base.errors import VrataError
from vrata.base.ids import kernel_name, mac_address
from vrata.net import daemon, ip
from vrata.net.command import NETNS_DIR, CommandFailed, inside
from vrata.net.daemon import DaemonId
from vrata.sandbox.containers.containers import Containers, ImageMissing, VolumeFailed
from vrata.sandbox.containers.model import Image
from vrata.sandbox.containers.render import missing_controllers
from vrata.sandbox.containers.runtime import Runtime, observe_machine, start_error, unmount_below, was_out_of_memory
from vrata.sandbox.containers.volumes import Addresses
from vrata.sandbox.kubelet import probes
from vrata.sandbox.kubelet.model import (
    Container,
    Pod,
    Probe,
    RunningContainer,
    RunningPod,
    SecurityContext,
    expand,
    field_value,
    is_restarted,
)
from vrata.sandbox.kubelet.settings import Settings

RESTART_FIRST_S = 0.5
RESTART_MAX_S = 30.0
KILL_S = 5.0
REFRESH_S = 30.0  # how old the files of a Secret or ConfigMap may be in a volume
START_ERROR = 128  # exit status of a container that could not be started, as containerd has it
ECHO_IMAGE = "vrata/echo"

Say = Callable[[str, str, str], None]  # type, reason and message of an event about the pod

log = structlog.get_logger(__name__)


class PodRunner:
    """Runs one pod from start to removal. `changed` is called whenever its status may have changed."""

    def __init__(
        self,
        settings: Settings,
        containers: Containers,
        pod: Pod,
        running: RunningPod,
        *,
        changed: Callable[[], None],
        say: Say,
    ) -> None:
        self.containers = containers
        self._say = say
        self._failures: dict[str, int] = {}  # starts in a row that failed, by container
        self.pod = pod
        self.running = running
        self.settings = settings
        self._changed = changed
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def directory(self) -> Path:
        """Logs and files of this pod."""
        return self.settings.state_dir / "pods" / self.running.uid

    def log_file(self, container: str, *, previous: bool = False) -> Path:
        """Where a container's output goes; the one before the last restart with `previous`."""
        return self.directory / f"{container}.log{'.previous' if previous else ''}"

    async def start(self) -> None:
        """Bring up the network and begin to supervise the containers; safe to repeat after a crash."""
        self.save()
        Path(self.running.tmp).mkdir(mode=0o700, exist_ok=True)
        if self.running.netns:
            await self._plug_in()
        self._tasks.append(asyncio.create_task(self._refresh_volumes()))
        for container in self.pod.spec.containers:
            self._tasks.append(asyncio.create_task(self._supervise(container)))

    def save(self) -> None:
        """Write the state file: beside, then rename."""
        self.directory.mkdir(parents=True, exist_ok=True)
        beside = self.directory / "state.json.new"
        beside.write_bytes(msgspec.json.encode(self.running))
        beside.replace(self.directory / "state.json")

    async def _plug_in(self) -> None:
        """The pod's namespace and its link to the node's bridge.

        The address is a /32 with the node as next hop even for neighbours: a reply to a translated packet must pass
        the node's connection tracking again, not take the short way over the bridge.
        """
        netns, link, gateway = self.running.netns, self.running.link, self.settings.gateway
        await ip.add_namespace(netns)
        present = {entry["ifname"] for entry in await ip.query("link", "show", netns=netns)}
        if "eth0" not in present:
            # The address decides the MAC: a neighbour entry that a former pod of this address left stays true.
            mac = mac_address(self.settings.sandbox, self.running.address)
            await ip.batch([f"link add {link} type veth peer name eth0 address {mac} netns {netns}"])
        await ip.batch([f"link set {link} master {self.settings.bridge} up"])
        await ip.batch(
            [
                f"addr replace {self.running.address}/32 dev eth0",
                "link set eth0 up",
                f"route replace default via {gateway} dev eth0 onlink",
            ],
            netns=netns,
        )

    async def _supervise(self, container: Container) -> None:
        """Keep one container's process running as its restart policy says, and its probes asked."""
        state = self.running.containers.setdefault(container.name, RunningContainer())
        while True:
            process = DaemonId(state.pid, state.start_ticks)
            if not state.pid or not daemon.is_alive(process):
                if state.exit_code is not None and not self._restarts(state.exit_code):
                    return
                started = await self._start(container, state)
                if started is None:
                    failures = max(state.restarts, self._failures.get(container.name, 0))
                    await asyncio.sleep(self._delay_s(failures))
                    continue
                self._failures.pop(container.name, None)
                process = started
            probing = asyncio.create_task(self._probe(container, state, process))
            try:
                exit_code = await daemon.wait(process)
            finally:
                probing.cancel()
            await self._ended(container, state, exit_code)
            if self._stopping or not self._restarts(exit_code):
                return
            await asyncio.sleep(self._delay_s(state.restarts))
            state.restarts += 1

    def _restarts(self, exit_code: int) -> bool:
        return not self._stopping and is_restarted(self.pod.spec.restart_policy, exit_code)

    @staticmethod
    def _delay_s(failures: int) -> float:
        return min(RESTART_FIRST_S * 2.0 ** min(failures, 10), RESTART_MAX_S)

    async def _start(self, container: Container, state: RunningContainer) -> DaemonId | None:
        if self.log_file(container.name).exists() and state.restarts:
            self.log_file(container.name).replace(self.log_file(container.name, previous=True))
        try:
            image = self.containers.find(container.image)
        except ImageMissing as error:
            self._missing_image(container, state, error)
            return None
        if image is None:
            process = self._start_process(container, state)
        else:
            process = await self._start_image(container, state, image)
        if process is None:
            self._changed()
            return None
        state.image = image.digest if image else ""
        state.pid, state.start_ticks = process.pid, process.start_ticks
        state.started_at, state.message, state.reason = clock.rfc3339(clock.now()), "", ""
        state.ready = container.readiness_probe is None
        state.exit_code = None
        self.save()
        self._changed()
        return process

    def _missing_image(self, container: Container, state: RunningContainer, error: ImageMissing) -> None:
        """As after a pull that failed: the first time the error, then the wait for the next try."""
        if state.reason in ("ErrImagePull", "ImagePullBackOff"):
            self._say("Normal", "BackOff", f'Back-off pulling image "{container.image}"')
            state.reason = "ImagePullBackOff"
        else:
            self._say("Warning", "Failed", f'Failed to pull image "{container.image}": {error}')
            state.reason = "ErrImagePull"
        state.message = str(error)
        self._failures[container.name] = self._failures.get(container.name, 0) + 1
        self._changed()

    def _start_process(self, container: Container, state: RunningContainer) -> DaemonId | None:
        env = self._environment(container)
        try:
            argv = self._argv(container, env)
            # Said here, because to whom a pod's command is missing no package need be the remedy.
            if shutil.which(argv[0], path=env["PATH"]) is None:
                raise FileNotFoundError(f"{argv[0]!r} is no program on this machine; correct `command`")
            return daemon.spawn(
                [*_confined(container.security_context), *argv],
                netns=self.running.netns or None,
                log=self.log_file(container.name),
                env=env,
                cwd=container.working_dir or "/",
            )
        except (VrataError, OSError, ValueError) as error:
            state.message = f"cannot start: {error}"
            state.restarts += 1
            return None

    async def _start_image(self, container: Container, state: RunningContainer, image: Image) -> DaemonId | None:
        netns = f"{NETNS_DIR / self.running.netns}" if self.running.netns else ""
        try:
            argv = await self.containers.prepare(
                self.pod, container, image, self.directory, netns, self._addresses, self._own_variables(container)
            )
            for name in missing_controllers(container, observe_machine().controllers):
                message = (
                    f"container {container.name}: this machine has no control group for {name}; its limit is not held"
                )
                self._say("Warning", "LimitNotApplied", message)
            return daemon.spawn(argv, log=self.log_file(container.name), cwd="/")
        except VolumeFailed as error:
            reason, event = "ContainerCreating", "FailedMount"
            state.message = str(error)
        except (VrataError, OSError, aiohttp.ClientError, TimeoutError) as error:
            reason, event = "CreateContainerConfigError", "Failed"
            state.message = str(error) or type(error).__name__
        state.reason = reason
        self._failures[container.name] = self._failures.get(container.name, 0) + 1
        self._say("Warning", event, state.message)
        return None

    @property
    def _addresses(self) -> Addresses:
        return Addresses(self.running.address, self.settings.address)

    async def _refresh_volumes(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self.containers.refresh(self.pod, self.directory, self._addresses)
            except (VrataError, OSError, aiohttp.ClientError, TimeoutError) as error:
                log.warning("volumes not refreshed", pod=self.running.key, error=str(error) or type(error).__name__)

    async def _ended(self, container: Container, state: RunningContainer, exit_code: int) -> None:
        state.last_reason = ""
        if state.image:
            exit_code = await self._collect(container, state, exit_code)
        state.pid = state.start_ticks = 0
        state.ready = False
        state.exit_code = state.last_exit_code = 128 - exit_code if exit_code < 0 else exit_code
        state.finished_at = clock.rfc3339(clock.now())
        self.save()
        self._changed()

    async def _collect(self, container: Container, state: RunningContainer, exit_code: int) -> int:
        """What is left of a container of an image that has ended goes; its exit status, and why it ended."""
        name, bundle = self.containers.name(self.pod, container), self.containers.bundle(self.directory, container)
        error = start_error(bundle) if exit_code == 1 else ""
        out_of_memory = was_out_of_memory(self.containers.cgroup(self.pod, container))
        await self.containers.runtime.remove(name)
        await unmount_below(bundle)
        if error:
            state.last_reason, state.message = "StartError", error
            self._say("Warning", "Failed", f"Error: {error}")
            return START_ERROR
        if out_of_memory:
            state.last_reason = "OOMKilled"
            return -signal.SIGKILL
        return exit_code

    def _argv(self, container: Container, env: dict[str, str]) -> list[str]:
        """The command line: the container's own, or the echo server's for its image."""
        args = [expand(word, env) for word in container.args]
        if container.command:
            return [expand(word, env) for word in container.command] + args
        if container.image.split(":")[0] != ECHO_IMAGE:
            raise ValueError(f"image {container.image!r} has no files here; give `command`, or use {ECHO_IMAGE}")
        if not any(word.endswith("-port") or "-port=" in word for word in args):
            for port in container.ports:
                args += ["--udp-port" if port.protocol == "UDP" else "--port", str(port.container_port)]
        return [sys.executable, "-m", "vrata.sandbox.echo", *args]

    def _environment(self, container: Container) -> dict[str, str]:
        bin_dir = str(Path(sys.executable).parent)
        env = {
            "PATH": f"{bin_dir}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOSTNAME": self.pod.metadata.name,
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "POD_NAME": self.pod.metadata.name,
            "NAMESPACE": self.pod.metadata.namespace,
            "KUBECONFIG": str(self.settings.kubeconfig),
            "TMPDIR": self.running.tmp,
        }
        return env | self._own_variables(container, env)

    def _own_variables(self, container: Container, known: dict[str, str] | None = None) -> dict[str, str]:
        """The variables that the container names, but for those from Secrets and ConfigMaps."""
        env = dict(known or {})
        for variable in container.env:
            source = variable.value_from
            if source and source.field_ref:
                env[variable.name] = field_value(
                    self.pod,
                    source.field_ref.field_path,
                    address=self.running.address,
                    host_address=self.settings.address,
                )
            else:
                env[variable.name] = expand(variable.value, env)
        return env

    async def _probe(self, container: Container, state: RunningContainer, process: DaemonId) -> None:
        """Startup first, then readiness and liveness side by side, until the process ends."""
        if container.startup_probe and not await self._until_started(container, state, container.startup_probe):
            await self._halt(container, state, process, self.pod.spec.termination_grace_period_seconds)
            return

        def set_ready(*, ready: bool) -> None:
            if state.ready != ready:
                state.ready = ready
                self._changed()

        async def readiness(probe: Probe) -> None:
            async for good in self._verdicts(container, state, probe, fast_until_good=True):
                set_ready(ready=good)

        async def liveness(probe: Probe) -> None:
            async for good in self._verdicts(container, state, probe):
                if not good:
                    log.info("liveness probe failed: restarting", pod=self.running.key, container=container.name)
                    await self._halt(container, state, process, self.pod.spec.termination_grace_period_seconds)
                    return

        async with asyncio.TaskGroup() as group:
            if container.readiness_probe:
                group.create_task(readiness(container.readiness_probe))
            if container.liveness_probe:
                group.create_task(liveness(container.liveness_probe))

    async def _until_started(self, container: Container, state: RunningContainer, probe: Probe) -> bool:
        async for good in self._verdicts(container, state, probe):
            return good
        return False

    async def _verdicts(
        self, container: Container, state: RunningContainer, probe: Probe, *, fast_until_good: bool = False
    ) -> AsyncIterator[bool]:
        """Yield a verdict whenever enough answers in a row agree; ask more often while a pod is not yet ready."""
        await asyncio.sleep(probe.initial_delay_seconds)
        row, last, verdict = 0, None, None
        while True:
            enter = self._enter(container, state)
            good = await probes.ask(probe, container, self.running.address, enter, probe.timeout_seconds)
            row = row + 1 if good == last else 1
            last = good
            if row >= (probe.success_threshold if good else probe.failure_threshold) and verdict != good:
                verdict = good
                yield good
            await asyncio.sleep(0.1 if fast_until_good and verdict is None else probe.period_seconds)

    async def stop(self, grace_s: float) -> None:
        """End the pod in good order: preStop hooks, SIGTERM, `grace_s`, SIGKILL; then remove its network and files."""
        self._stopping = True
        deadline = asyncio.get_running_loop().time() + grace_s
        await asyncio.gather(*(self._stop_container(container, deadline) for container in self.pod.spec.containers))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await remove(self.settings, self.running)

    async def _stop_container(self, container: Container, deadline: float) -> None:
        state = self.running.containers.get(container.name)
        if state is None or not state.pid:
            return
        loop = asyncio.get_running_loop()
        hook = container.lifecycle.pre_stop if container.lifecycle else None
        process = DaemonId(state.pid, state.start_ticks)
        if hook:
            enter = self._enter(container, state)
            await probes.ask(hook, container, self.running.address, enter, max(deadline - loop.time(), 1.0))
        await self._halt(container, state, process, max(deadline - loop.time(), 0.1))

    def _enter(self, container: Container, state: RunningContainer) -> tuple[str, ...]:
        """The words before a command that is to run in a container."""
        if state.image:
            return self.containers.runtime.command("exec", self.containers.name(self.pod, container))
        return inside(self.running.netns or None)

    async def _halt(self, container: Container, state: RunningContainer, process: DaemonId, grace_s: float) -> None:
        """Ask a container to end, and end it by force after `grace_s`; runc passes signals on, but for KILL."""
        if state.image:
            daemon.send(process, signal.SIGTERM)
            if await daemon.wait_gone(process, grace_s):
                return
            await self.containers.runtime.kill(self.containers.name(self.pod, container))
            grace_s = KILL_S
        await daemon.stop(process, signal.SIGTERM, grace_s)

    async def abandon(self) -> None:
        """Stop supervising, leave everything running: the kubelet is about to end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _confined(context: SecurityContext) -> list[str]:
    """The words before a command that keep what it may do as small as its container asks (setpriv(1))."""
    words = [f"--{kind}=-all" for kind in ("bounding-set", "inh-caps") if "ALL" in context.capabilities.drop]
    words += [] if context.allow_privilege_escalation else ["--no-new-privs"]
    return ["setpriv", *words] if words else []


def new_running(settings: Settings, pod: Pod, address: str) -> RunningPod:
    """The record of a pod that is about to be started."""
    uid = pod.metadata.uid
    return RunningPod(
        uid=uid,
        key=pod.metadata.key,
        netns="" if pod.spec.host_network else kernel_name("p", settings.sandbox, uid),
        link=kernel_name("pl", settings.sandbox, uid),
        address=address,
        tmp=f"{tempfile.gettempdir()}/{kernel_name('t', settings.sandbox, uid)}",  # short: socket paths end at 107 characters
        started_at=clock.rfc3339(clock.now()),
    )


async def remove(settings: Settings, running: RunningPod) -> None:
    """Remove whatever is left of a pod: containers, processes, namespace with its link, files, in this order."""
    runtime, directory = Runtime(settings.state_dir / "runc"), settings.state_dir / "pods" / running.uid
    try:
        for name in runtime.names(f"{running.uid}."):
            await runtime.remove(name)
        for state in (one for one in running.containers.values() if one.pid):
            daemon.send(DaemonId(state.pid, state.start_ticks), signal.SIGKILL)
        if running.netns:
            for pid in ip.processes_in(running.netns):
                if process := daemon.identify(pid):
                    daemon.send(process, signal.SIGKILL)
            await ip.delete_namespace(running.netns)
        await unmount_below(directory)
    except CommandFailed as error:
        log.warning("pod not removed as a whole", pod=running.key, error=str(error))
    shutil.rmtree(running.tmp, ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)
