"""What the story's steps act with: kubectl, clients on the sandbox's machines, the cloud, and a place for figures."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vrata.base.errors import VrataError
from vrata.kube import config, resources
from vrata.kube.client import Kube
from vrata.net import ip
from vrata.net.command import CommandFailed, inside, run
from vrata.provider.cloud import Cloud
from vrata.sandbox.lifecycle import Sandbox

WAIT_S = 30.0
POLL_S = 0.02
LBAAS = "/v2.0/lbaas"

Json = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One measured number against its goal (at most). Times, in `s` or `ms`, depend on the machine."""

    id: str
    value: float
    unit: str
    goal: float

    @property
    def met(self) -> bool:
        """Whether the goal holds."""
        return self.value <= self.goal

    @property
    def slow(self) -> bool:
        """Whether it is a time that misses its goal: shown, where any other figure that does fails the demo."""
        return not self.met and self.unit in ("s", "ms")


@dataclass
class Stage:
    """One sandbox and the means to act on it."""

    sandbox: Sandbox
    say: Callable[[str], None]
    figures: list[Figure] = field(default_factory=list)

    async def kubectl(self, *argv: str, stdin: str = "") -> str:
        """Run kubectl against the sandbox's API server; CommandFailed with its message if it fails."""
        kubeconfig = str(self.sandbox.paths.kubeconfig)
        return await run(kubectl_binary(), "--kubeconfig", kubeconfig, *argv, stdin=stdin, timeout_s=120)

    async def apply(self, *objects: Json | str) -> None:
        """`kubectl apply` of objects or manifest texts."""
        texts = [item if isinstance(item, str) else yaml.safe_dump(item, sort_keys=False) for item in objects]
        await self.kubectl("apply", "-f", "-", stdin="\n---\n".join(texts))

    async def object(self, kind: str, name: str, namespace: str = "default") -> Json:
        """A Service or Ingress as the API has it now; {} if there is none."""
        resource = {"service": resources.SERVICES, "ingress": resources.INGRESSES}[kind]
        async with Kube(config.load(self.sandbox.paths.kubeconfig)) as kube:
            return await kube.get(resource, Json, name, namespace) or {}

    async def curl(self, machine: str, url: str, *options: str) -> tuple[int, str]:
        """(status, body) of a request from a machine; status 0 if nobody answers within a second."""
        netns = self.sandbox.layout.machine(machine).netns
        argv = ("curl", "-s", "-m", "1", "-w", "\n%{http_code}", *options, url)
        try:
            answer = await run(*argv, netns=netns)
        except CommandFailed:
            return 0, ""
        body, _, status = answer.rpartition("\n")
        return int(status), body

    async def wait(self, what: str, true: Callable[[], Awaitable[Any]], timeout_s: float = WAIT_S) -> Any:
        """Poll until something is truthy and return it; VrataError after the time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = await true()
            if found:
                return found
            await asyncio.sleep(POLL_S)
        raise VrataError(f"waited {timeout_s:.0f} s without success: {what}")

    async def address_of(self, service: str, namespace: str = "default") -> str:
        """Wait until a Service has an address in its status."""

        async def address() -> str:
            ingress = (
                (await self.object("service", service, namespace))
                .get("status", {})
                .get("loadBalancer", {})
                .get("ingress")
            )
            return str(ingress[0]["ip"]) if ingress else ""

        return str(await self.wait(f"Service {service} has an address", address))

    async def until_answers(self, machine: str, url: str, *options: str) -> str:
        """Wait for a 200 and return the body."""

        async def answer() -> str:
            status, body = await self.curl(machine, url, *options)
            return body if status == 200 else ""

        return str(await self.wait(f"{url} answers on {machine}", answer))

    async def first_answer(self, machine: str, address: str, port: int = 80) -> float:
        """Seconds until the first 200 from an address, asked from a machine every few milliseconds."""
        begun = time.monotonic()
        await self.until_answers(machine, f"http://{address}:{port}/")
        return time.monotonic() - begun

    async def start_probe(self, machine: str, address: str, *options: str) -> asyncio.subprocess.Process:
        """Start the counting client on a machine."""
        argv = (sys.executable, "-m", "vrata.sandbox.demo.probe", address, *options)
        netns = self.sandbox.layout.machine(machine).netns
        return await asyncio.create_subprocess_exec(*inside(netns, *argv), stdout=asyncio.subprocess.PIPE)

    @staticmethod
    async def finish_probe(probe: asyncio.subprocess.Process) -> Json:
        """End the counting client and return what it counted."""
        if probe.returncode is None:
            probe.terminate()
        stdout, _ = await probe.communicate()
        result: Json = json.loads(stdout)
        return result

    async def holder(self, address: str) -> tuple[str, str]:
        """(host, instance namespace) of the instance that holds an address now."""

        async def look() -> tuple[str, str] | None:
            return next(iter(await self.holders(address)), None)

        found: tuple[str, str] = await self.wait(f"an instance holds {address}", look)
        return found

    async def holders(self, address: str) -> list[tuple[str, str]]:
        """All (host, instance namespace) on whose legs an address is."""
        found = []
        for host, netns in self.sandbox.instance_namespaces():
            try:
                legs = [link for link in await ip.query("addr", "show", netns=netns) if link["ifname"] != "lo"]
            except CommandFailed as error:
                # It is being removed, which first kills what runs in it, or is not made yet.
                if netns in ip.list_namespaces() and error.status != -signal.SIGKILL:
                    raise
                continue
            if any(entry.get("local") == address for leg in legs for entry in leg.get("addr_info", [])):
                found.append((host, netns))
        return found

    async def pair_of(self, service: str, namespace: str = "default") -> Json:
        """Wait until a Service's load balancer is ACTIVE with two instances; returns it."""
        name = f"kube_service_{self.sandbox.options.name}_{namespace}_{service}"
        async with self.admin() as cloud:

            async def active() -> Json | None:
                found = await cloud.find("load-balancer", f"{LBAAS}/loadbalancers", "loadbalancers", name=name)
                return found[0] if found and found[0]["provisioning_status"] == "ACTIVE" else None

            balancer: Json = await self.wait(f"{name} is ACTIVE", active)
        return balancer

    def admin(self) -> Cloud:
        """A session with the cloud as its administrator."""
        return Cloud("vrata-admin", self.sandbox.paths.clouds)

    def tenant(self) -> Cloud:
        """A session with the cloud as the tenant."""
        return Cloud("vrata", self.sandbox.paths.clouds)

    def figure(self, id_: str, value: float, unit: str, goal: float) -> None:
        """Record a measured figure; one that misses its goal is said, and fails the demo at its end if it is no time."""
        figure = Figure(id_, round(value, 3), unit, goal)
        self.figures.append(figure)
        verdict = "" if figure.met else "   ← slower than its goal" if figure.slow else "   ← misses its goal"
        self.say(f"    {id_}: {figure.value:g} {unit} (goal: at most {goal:g}){verdict}")


def kubectl_binary() -> str:
    """The kubectl beside this Python if there is one, else the one on PATH."""
    beside = Path(sys.executable).parent / "kubectl"
    return str(beside) if beside.exists() else "kubectl"


def check(true: object, what: str) -> None:
    """A step is true or the demo fails."""
    if not true:
        raise VrataError(f"not true: {what}")
