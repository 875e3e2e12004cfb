"""Which processes a sandbox has, on which machine, with which command line; and where its files are."""

from dataclasses import dataclass
from pathlib import Path

from vrata.sandbox.model import (
    AGENT_PORT,
    API_PORT,
    CLOUD_EXTERNAL,
    CLOUD_MGMT,
    CLOUD_PORT,
    EXTERNAL,
    MASTER_ADDRESS,
    NODE_PROXY,
    PROVIDER,
    SERVICE_NETWORK,
    TENANT,
    Options,
    Topology,
    server_id,
)

API_SERVER_NAMES = (MASTER_ADDRESS, "127.0.0.1", "localhost", "10.96.0.1")


@dataclass(frozen=True)
class Part:
    """One process of the sandbox: where it runs and its command line after `vrata`."""

    name: str
    machine: str  # "" for the machine's own namespace
    argv: tuple[str, ...]
    listens_on_loopback: bool = False  # gets `--listen-fd N`, a socket on the recorded loopback port


@dataclass(frozen=True)
class Paths:
    """Files of one sandbox, all below one folder."""

    root: Path

    @property
    def options(self) -> Path:
        return self.root / "sandbox.json"

    @property
    def record(self) -> Path:
        return self.root / "created.jsonl"

    @property
    def kubeconfig(self) -> Path:
        """For kubectl on this machine."""
        return self.root / "kubeconfig"

    @property
    def node_kubeconfig(self) -> Path:
        """For whatever runs inside the sandbox's machines."""
        return self.root / "node.kubeconfig"

    @property
    def clouds(self) -> Path:
        """clouds.yaml for clients on this machine."""
        return self.root / "clouds.yaml"

    @property
    def node_clouds(self) -> Path:
        """clouds.yaml for the provider inside the sandbox."""
        return self.root / "node.clouds.yaml"

    @property
    def images(self) -> Path:
        """Images that pods may use, unpacked."""
        return self.root / "images"

    def log(self, part: str) -> Path:
        return self.root / "logs" / f"{part}.log"

    def process(self, part: str) -> Path:
        return self.root / "parts" / f"{part}.json"

    def state(self, part: str) -> Path:
        return self.root / "state" / part


def parts(options: Options, layout: Topology, paths: Paths) -> tuple[Part, ...]:
    """The processes of a sandbox, in the order in which they are started."""
    kube = ("--kubeconfig", str(paths.node_kubeconfig))
    found = [
        _cloud_part(options, paths),
        *([_relay_part(options, layout)] if options.kubeconfig else [_apiserver_part(paths)]),
    ]
    for host in layout.of_role("host"):
        bridges = [word for network in (EXTERNAL, TENANT) for word in ("--bridge", f"{network}={network}")]
        url = f"http://{CLOUD_MGMT}:{AGENT_PORT}"
        argv = [
            "host",
            "--name",
            host.name,
            "--cloud-url",
            url,
            "--secret-file",
            str(paths.root / "host-secret"),
            "--insecure",
        ]
        found.append(Part(host.name, host.name, (*argv, *bridges, "--state-dir", str(paths.state(host.name)))))
    if options.controllers is not False:
        everything = ("--everything",) if options.controllers else ()
        found.append(Part("workloads", "master-0", ("workloads", *kube, *everything)))
    for node in layout.of_role("master", "worker"):
        argv = ["kubelet", "--sandbox", options.name, "--node", node.name, "--address", node.address]
        argv += ["--state-dir", str(paths.state(f"kubelet-{node.name}")), "--pod-cidr", node.pod_cidr, *kube]
        argv += ["--images", str(paths.images)]
        argv += ["--provider-id", f"openstack:///{server_id(options.name, node.name)}"]
        argv += ["--taint", "node-role.kubernetes.io/control-plane:NoSchedule"] if node.role == "master" else []
        found.append(Part(f"kubelet-{node.name}", node.name, tuple(argv)))
        if NODE_PROXY not in options.without:
            found.append(Part(f"node-{node.name}", node.name, ("node", "--node", node.name, *kube)))
    cloud = ("--os-cloud", "vrata", "--clouds-file", str(paths.node_clouds), "--cluster-name", options.name)
    # Nodes of another's cluster have their servers elsewhere: that this cloud does not know them means nothing.
    halves = ("--controllers", "service,node") if options.kubeconfig else ()
    if PROVIDER not in options.without:
        found.append(Part("provider", "master-0", ("provider", *kube, *cloud, *halves)))
    return tuple(found)


def _cloud_part(options: Options, paths: Paths) -> Part:
    argv = ["cloud", "serve", "--data-dir", str(paths.state("cloud"))]
    argv += ["--listen", f"{CLOUD_MGMT}:{CLOUD_PORT}", "--listen", f"{CLOUD_EXTERNAL}:{CLOUD_PORT}"]
    argv += ["--agent-listen", f"{CLOUD_MGMT}:{AGENT_PORT}"]
    argv += ["--admin-password-file", str(paths.root / "admin-password")]
    argv += ["--advert-interval-ms", str(options.advert_interval_ms)]
    argv += ["--demo-password-file", str(paths.root / "demo-password")]
    argv += ["--host-secret-file", str(paths.root / "host-secret"), "--insecure"]  # networks of this machine alone
    argv += ["--network-quota", "none"]  # one tenant, who tries things out
    argv += ["--host-timeout-s", "2"]  # one machine, no network that could lose a report: show a rebuild sooner
    return Part("cloud", "cloud", tuple(argv), listens_on_loopback=True)


def _apiserver_part(paths: Paths) -> Part:
    argv = ["apiserver", "--data-dir", str(paths.state("apiserver")), "--listen", f"{MASTER_ADDRESS}:{API_PORT}"]
    argv += ["--token-file", str(paths.root / "token"), "--service-cidr", SERVICE_NETWORK]
    argv += [word for name in API_SERVER_NAMES for word in ("--san", name)]
    return Part("apiserver", "master-0", tuple(argv), listens_on_loopback=True)


def _relay_part(options: Options, layout: Topology) -> Part:
    """The way from the sandbox's machines to an API server outside: runs outside, listens inside."""
    argv = ["relay", "--kubeconfig", options.kubeconfig, "--netns", layout.machine("master-0").netns]
    return Part("relay", "", (*argv, "--listen", f"{MASTER_ADDRESS}:{API_PORT}"))
