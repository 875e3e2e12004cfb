"""One node in a namespace: the API server with a foot outside, and the kubelet as a process."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from tests.support.fabric import Machine, fabric
from tests.support.kubernetes import Cluster, wait_for

from vrata.net import ip
from vrata.net.command import inside
from vrata.sandbox.kubelet import pod as pods
from vrata.sandbox.kubelet.model import RunningPod
from vrata.sandbox.kubelet.settings import Settings

NODE, ADDRESS, API = "worker-9", "10.10.0.9", "10.10.0.9:6443"
POD_CIDR = "10.20.9.0/24"
Json = dict[str, Any]


class Node:
    """What a test acts on."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine, self.folder = machine, folder
        self.state = folder / "state"
        self.cluster = Cluster(folder / "kubeconfig", folder / "cache")
        self.settings = Settings(
            f"t{os.getpid()}", NODE, ADDRESS, POD_CIDR, self.state, kubeconfig=folder / "node.kubeconfig"
        )
        self.kubelet: subprocess.Popen[bytes] | None = None

    def _spawn(self, name: str, *argv: str, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            command = inside(self.machine.netns, sys.executable, "-m", "vrata", name, *argv)
            return subprocess.Popen(command, stdout=log, stderr=log, pass_fds=pass_fds)

    @contextlib.contextmanager
    def api_server(self) -> Iterator[None]:
        """The API server: the kubelet reaches it inside, kubectl on loopback outside, and it reaches the kubelet."""
        with socket.create_server(("127.0.0.1", 0), backlog=64) as outside:
            options = ["--data-dir", str(self.folder / "data"), "--listen", API, "--listen-fd", str(outside.fileno())]
            options += ["--kubeconfig", str(self.settings.kubeconfig)]
            process = self._spawn("apiserver", *options, pass_fds=(outside.fileno(),))
            port = outside.getsockname()[1]
        try:
            wait_for(lambda: "ready" in (self.folder / "apiserver.log").read_text(), "the API server is ready")
            text = self.settings.kubeconfig.read_text()
            self.cluster.kubeconfig.write_text(text.replace(API, f"127.0.0.1:{port}"))
            wait_for(lambda: self.cluster.run("get", "sa", "default").status == 0, "the default ServiceAccount")
            yield
        finally:
            process.terminate()
            process.wait(90)

    def start(self) -> None:
        """Start the kubelet (again)."""
        options = ["--sandbox", self.settings.sandbox, "--node", NODE, "--address", ADDRESS, "--pod-cidr", POD_CIDR]
        options += ["--state-dir", str(self.state), "--kubeconfig", str(self.settings.kubeconfig)]
        self.kubelet = self._spawn("kubelet", *options)

    def kill(self) -> None:
        """kill -9 of the kubelet."""
        assert self.kubelet
        self.kubelet.kill()
        self.kubelet.wait()

    def apply(self, *objects: Json) -> None:
        """Write objects."""
        self.cluster.kubectl(
            "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        )

    def container(self, pod: str) -> Json:
        """The status of a pod's container, empty until there is one."""
        found: Json = self.cluster.get("pod", pod)["status"]
        return {**(found.get("containerStatuses") or [{}])[0], "phase": found["phase"]}

    def is_ready(self, pod: str) -> bool:
        return bool(self.container(pod).get("ready"))

    def until_ready(self, pod: str) -> None:
        wait_for(lambda: self.is_ready(pod), f"{pod} is ready")

    def record(self, pod: str) -> RunningPod | None:
        """What the kubelet wrote down of a pod."""
        for file in self.state.glob("pods/*/state.json"):
            found = msgspec.json.decode(file.read_bytes(), type=RunningPod)
            if found.key == f"default/{pod}":
                return found
        return None

    def pid(self, pod: str) -> int:
        """The process of a pod's container."""
        record = self.record(pod)
        assert record
        return record.containers["main"].pid

    def is_gone(self, record: RunningPod) -> bool:
        """Whether nothing is left of a pod: namespace, link, files."""
        links = subprocess.run(
            inside(self.machine.netns, "ip", "link", "show", record.link), capture_output=True, check=False
        )
        folders = (Path(record.tmp), self.state / "pods" / record.uid)
        return (
            record.netns not in ip.list_namespaces() and links.returncode != 0 and not any(f.exists() for f in folders)
        )

    async def _remove_pods(self) -> None:
        for file in self.state.glob("pods/*/state.json"):
            await pods.remove(self.settings, msgspec.json.decode(file.read_bytes(), type=RunningPod))


def pod(name: str, *command: str, node: str = NODE, policy: str = "Always", grace_s: int = 1, **container: Any) -> Json:
    """A pod of one container, bound to the node; without a command it is the echo server on port 8080."""
    main: Json = {"name": "main", "image": "vrata/echo", **container}
    if command:
        main["command"] = list(command)
    spec = {
        "nodeName": node,
        "restartPolicy": policy,
        "terminationGracePeriodSeconds": grace_s,
        "containers": [main],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


@contextlib.contextmanager
def node(folder: Path) -> Iterator[Node]:
    """The node with its pod bridge, API server and kubelet; everything is gone at the end."""
    with asyncio.Runner() as runner, contextlib.ExitStack() as stack:
        network = fabric("kubelet", "lan")
        made = runner.run(network.__aenter__())
        stack.callback(lambda: runner.run(network.__aexit__(None, None, None)))
        machine = runner.run(made.add_machine("node", {"lan": [f"{ADDRESS}/24"]}))
        lines = ["link set lo up", "link add name pods type bridge", f"addr add {POD_CIDR[:-4]}1/24 dev pods"]
        runner.run(ip.batch([*lines, "link set pods up"], netns=machine.netns))
        result = Node(machine, folder)
        stack.enter_context(result.api_server())
        result.start()
        try:
            wait_for(lambda: result.cluster.run("get", "node", NODE).status == 0, "the node registers")
            yield result
        finally:
            result.kill()
            runner.run(result._remove_pods())
