"""Brings a sandbox up, repairs it, takes it down. Every step finds out first what is there, so each may be repeated.

Nothing is looked for by pattern: what goes is what was recorded.
"""

import asyncio
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import aiohttp
import msgspec
import yaml

from vrata.base import clock
from vrata.base.errors import VrataError
from vrata.base.files import write_atomic
from vrata.cloud.clouds import write_clouds_yaml
from vrata.host.store import HostStore
from vrata.kube import config, resources
from vrata.kube.client import ApiError, Kube
from vrata.kube.objects import Node
from vrata.net import ip
from vrata.net.command import CommandFailed, run
from vrata.provider.cloud import Cloud, CloudError
from vrata.sandbox import model, network, outside, tenant
from vrata.sandbox.apiserver import pki
from vrata.sandbox.containers import runtime
from vrata.sandbox.containers.images import Images
from vrata.sandbox.model import Options, Topology
from vrata.sandbox.parts import Parts, check_root, check_tools
from vrata.sandbox.roster import API_SERVER_NAMES, Part, Paths, parts
from vrata.sandbox.workloads.detection import observe_left

READY_TIMEOUT_S = 30.0
POLL_S = 0.05
CONTROL = ("cloud", "apiserver", "relay")

Progress = Callable[[str], None]  # called with what begins now


def silent(_title: str) -> None:
    """A Progress that tells nobody."""


def home() -> Path:
    """Where sandboxes live: $VRATA_HOME, else /var/lib/vrata."""
    return Path(os.environ.get("VRATA_HOME", "/var/lib/vrata"))


class Sandbox:
    """One sandbox by name; its options are those it was first brought up with."""

    def __init__(self, options: Options) -> None:
        options.check()
        self.options = options
        self.paths = Paths(home() / options.name)
        self.layout: Topology = model.topology(options)
        self.parts = Parts(self.paths, self.layout)

    @classmethod
    def existing(cls, name: str) -> "Sandbox":
        """The sandbox of this name that was brought up before; VrataError if there is none."""
        Options(name=name).check()
        file = Paths(home() / name).options
        try:
            return cls(msgspec.json.decode(file.read_bytes(), type=Options))
        except FileNotFoundError:
            remedy = "vrata up" + (f" --name {name}" if name != "default" else "")
            raise VrataError(f"there is no sandbox {name!r}", remedy=f"bring it up with `{remedy}`") from None

    @classmethod
    def wanted(cls, name: str, **given: object) -> "Sandbox":
        """The sandbox of this name as it is, changed by the options given (None: as it is, or the default)."""
        Options(name=name).check()
        file = Paths(home() / name).options
        known = msgspec.json.decode(file.read_bytes(), type=Options) if file.exists() else Options(name=name)
        return cls(known.grown(exists=file.exists(), **given))

    def all_parts(self) -> tuple[Part, ...]:
        """Every process this sandbox should have."""
        return parts(self.options, self.layout, self.paths)

    async def up(self, progress: Progress, images: Iterable[Path] = ()) -> None:
        """Bring up everything that is not up yet; VrataError says what stands in the way.

        `images`: OCI archives whose images the pods may use from now on.
        """
        check_root()
        check_tools()
        archives = list(images)
        if archives:
            runtime.check_installed()
        self._prepare_files()
        if archives:
            progress("unpacking images")
            await self._unpack(archives)
        progress("making machines and networks")
        wanted = self.all_parts()
        await self._build(wanted)
        progress("starting cloud and API server")
        await self._start_control(wanted)
        if self.options.kubeconfig:
            progress("looking at the cluster")
            await self._meet_cluster(progress)
        progress("making tenant network, router, ports")
        await self._make_tenant()
        progress("starting hosts, nodes and controllers")
        await self._start_rest(wanted)
        progress("waiting for nodes to be ready and a gateway to be active")
        await self._wait_ready(wanted)

    async def _unpack(self, archives: list[Path]) -> None:
        images = Images(self.paths.images)
        for archive in archives:
            await asyncio.to_thread(images.add, archive)

    def _prepare_files(self) -> None:
        self.paths.root.mkdir(parents=True, exist_ok=True)
        write_atomic(self.paths.options, msgspec.json.encode(self.options))
        for name in ("admin-password", "demo-password", "host-secret", "token"):
            file = self.paths.root / name
            if not file.exists():
                write_atomic(file, secrets.token_hex(16))
                file.chmod(0o600)

    async def _build(self, wanted: tuple[Part, ...]) -> None:
        """Make the machines that are missing; parts that are not wanted, or run in a namespace without a name, end first."""
        existing = ip.list_namespaces()
        lost = {machine.name for machine in self.layout.machines if machine.netns not in existing}
        await self.parts.stop(set(self.parts.names()) - {part.name for part in wanted if part.machine not in lost})
        await network.build(self.paths, self.layout)

    async def _start_control(self, wanted: tuple[Part, ...]) -> None:
        control = [part for part in wanted if part.name in CONTROL]
        if not self.options.kubeconfig:
            # Before the server starts, so that nobody waits for its keys, and again from the same files afterwards.
            pki.prepare(self.paths.state("apiserver"), API_SERVER_NAMES, self.paths.root / "token")
        for part in control:
            await self.parts.ensure(part)
        await asyncio.gather(self._wait_cloud(), self._wait_api_server())

    async def _wait_cloud(self) -> None:
        url = f"http://127.0.0.1:{self._loopback_port('cloud')}"

        async def answers() -> bool:
            self.parts.check_alive("cloud")
            async with aiohttp.ClientSession() as session, session.get(f"{url}/healthcheck") as answer:
                return answer.status == 200

        await self._until("the cloud answers", answers)
        inside = f"http://{model.CLOUD_EXTERNAL}:{model.CLOUD_PORT}"
        passwords = {
            f"{user}_password": (self.paths.root / f"{user}-password").read_text() for user in ("demo", "admin")
        }
        write_clouds_yaml(self.paths.clouds, url, **passwords)
        write_clouds_yaml(self.paths.node_clouds, inside, **passwords)

    async def _wait_api_server(self) -> None:
        if self.options.kubeconfig:
            await self._write_outside_kubeconfigs()
        else:
            credentials = pki.prepare(self.paths.state("apiserver"), API_SERVER_NAMES, self.paths.root / "token")
            name = f"vrata-{self.options.name}"
            url = f"https://127.0.0.1:{self._loopback_port('apiserver')}"
            pki.write_kubeconfig(self.paths.kubeconfig, url, credentials, name)
            inside = f"https://{model.MASTER_ADDRESS}:{model.API_PORT}"
            pki.write_kubeconfig(self.paths.node_kubeconfig, inside, credentials, name)

        async def answers() -> bool:
            for part in ("apiserver", "relay"):
                if self.parts.record(part):
                    self.parts.check_alive(part)
            async with Kube(config.load(self.paths.kubeconfig)) as kube:
                return await kube.get(resources.NAMESPACES, dict, "kube-system") is not None

        await self._until("the API server answers", answers)
        if not self.options.kubeconfig:
            await self._publish_api_server()

    async def _write_outside_kubeconfigs(self) -> None:
        """The given kubeconfig as it is for us; for the machines with the relay's address and the true server name."""
        document = config.read_document([Path(self.options.kubeconfig)])  # its paths are absolute now
        write_atomic(self.paths.kubeconfig, yaml.safe_dump(document, sort_keys=False))
        self.paths.kubeconfig.chmod(0o600)
        for entry in document["clusters"]:
            cluster = entry["cluster"]
            host = cluster["server"].partition("://")[2].rpartition(":")[0]
            cluster.setdefault("tls-server-name", host)
            cluster["server"] = f"https://{model.MASTER_ADDRESS}:{model.API_PORT}"
        write_atomic(self.paths.node_kubeconfig, yaml.safe_dump(document, sort_keys=False))
        self.paths.node_kubeconfig.chmod(0o600)

    async def _publish_api_server(self) -> None:
        """Give the Service `kubernetes` its endpoint, so that a pod finds the API server where it always is."""
        body = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [model.MASTER_ADDRESS], "conditions": {"ready": True}}],
            "ports": [{"name": "https", "port": model.API_PORT, "protocol": "TCP"}],
        }
        async with Kube(config.load(self.paths.kubeconfig)) as kube:
            await kube.patch(resources.ENDPOINT_SLICES, "kubernetes", body, "default", strategy="apply")

    async def _meet_cluster(self, progress: Progress) -> None:
        """Leave the nodes of another's cluster alone, and what its own controllers do to them."""
        names = {machine.name for machine in self.layout.of_role("master", "worker")}
        async with Kube(config.load(self.paths.kubeconfig)) as kube:
            await outside.check_nodes(kube, names, self.options.name)
            left = await observe_left(kube)
        if left and self.options.controllers is None:
            progress(f"leaving workloads to the cluster's own {' and '.join(sorted(left))}")

    async def _make_tenant(self) -> None:
        async with Cloud("vrata-admin", self.paths.clouds) as admin, Cloud("vrata", self.paths.clouds) as demo:
            projects = await admin.find("identity", "/v3/projects", "projects", name="demo")
            external_id = await tenant.ensure_external(admin)
            network_id, subnet_id = await tenant.ensure_tenant_network(admin, projects[0]["id"])
            await tenant.ensure_router(demo, external_id, subnet_id)
            await tenant.ensure_node_ports(demo, self.options, self.layout, network_id, subnet_id)
            await tenant.ensure_servers(admin, self.layout, network_id, projects[0]["id"])

    async def _start_rest(self, wanted: tuple[Part, ...]) -> None:
        for part in wanted:
            if part.name not in CONTROL:
                await self.parts.ensure(part)

    async def _wait_ready(self, wanted: tuple[Part, ...]) -> None:
        nodes = {machine.name for machine in self.layout.of_role("master", "worker")}

        async def nodes_ready() -> bool:
            for part in wanted:
                self.parts.check_alive(part.name)
            async with Kube(config.load(self.paths.kubeconfig)) as kube:
                found = (await kube.list(resources.NODES, Node)).objects
            return nodes <= {node.metadata.name for node in found if node.is_ready()}

        async def way_out() -> bool:
            url = f"http://{model.CLOUD_EXTERNAL}:{model.CLOUD_PORT}/healthcheck"
            await run("curl", "-sf", "-m", "1", "-o", "/dev/null", url, netns=self.layout.machine("master-0").netns)
            return True

        await self._until("all nodes are ready", nodes_ready)
        await self._until("the gateway serves the tenant's way out", way_out)

    async def _until(self, what: str, true: Callable[[], Awaitable[bool]]) -> None:
        """Poll a condition; VrataError after the bound, with the last reason."""
        deadline = clock.monotonic_s() + READY_TIMEOUT_S
        reason = "it is not"
        while clock.monotonic_s() < deadline:
            try:
                if await true():
                    return
            except (aiohttp.ClientError, ApiError, CloudError, CommandFailed, OSError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
            await asyncio.sleep(POLL_S)
        raise VrataError(
            f"waited {READY_TIMEOUT_S:.0f} s until {what}: {reason}", remedy="see `vrata status` and `vrata logs`"
        )

    def _loopback_port(self, part: str) -> int:
        record = self.parts.record(part)
        if record is None:
            raise VrataError(f"{part} was never started", remedy="run `vrata up`")
        return record.loopback_port

    async def down(self, progress: Progress = silent) -> None:
        """Stop and remove everything this sandbox recorded; safe to repeat.

        VrataError, when all of it is gone from this machine, if the cluster outside could not be cleaned.
        """
        check_root()
        progress("stopping every part")
        await self.parts.stop_all()
        progress("removing machines and networks")
        await self._remove_machines()
        try:
            if self.options.kubeconfig and self.paths.kubeconfig.exists():
                progress("removing nodes, pods and addresses from the cluster")
                async with Kube(config.load(self.paths.kubeconfig)) as kube:
                    await outside.Cleaning(kube, self.options.name).run()
        finally:
            progress("removing files")
            self._remove_files()

    async def _remove_machines(self) -> None:
        """Containers first: their mounts are in no namespace of a machine."""
        await runtime.remove_all(self.paths.root)
        names = [
            *self._pod_namespaces(),
            *(name for _, name in self.instance_namespaces()),
            *network.recorded_namespaces(self.paths),
        ]
        await network.remove_namespaces(tuple(dict.fromkeys(names)))

    def _remove_files(self) -> None:
        for folder in self._pod_folders():
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self.paths.root, ignore_errors=True)  # another `vrata down` may be at it

    def _pod_records(self) -> list[dict[str, str]]:
        files = self.paths.root.glob("state/kubelet-*/pods/*/state.json")
        return [msgspec.json.decode(file.read_bytes()) for file in files]

    def pod_namespace(self, uid: str) -> str:
        """The namespace of a pod that runs here."""
        return next(record["netns"] for record in self._pod_records() if record["uid"] == uid)

    def _pod_namespaces(self) -> list[str]:
        return [record["netns"] for record in self._pod_records() if record["netns"]]

    def _pod_folders(self) -> list[str]:
        return [record["tmp"] for record in self._pod_records()]

    def instance_namespaces(self) -> list[tuple[str, str]]:
        """(host, namespace) of the instances that host agents recorded before they made them."""
        return [
            (host.name, name)
            for host in self.layout.of_role("host")
            for name in _recorded_instances(self.paths.state(host.name))
        ]


def _recorded_instances(state_dir: Path) -> list[str]:
    store = HostStore(state_dir)
    store.prepare()
    return [record.netns for known in store.known() if (record := store.record(known))]
