"""The sandbox as data: machines, their links and addresses. Pure; names by rule."""

import uuid
from dataclasses import dataclass, field, replace

from vrata.base.errors import InvalidInput
from vrata.base.ids import KernelName, kernel_name, mac_address

HOSTS_MIN, HOSTS_MAX = 1, 20
WORKERS_MIN, WORKERS_MAX = 1, 50
NAME_MAX = 32
ADVERT_MIN_MS, ADVERT_MAX_MS = 10, 40950  # RFC 9568: centiseconds in twelve bits

EXTERNAL, TENANT, MGMT = "external", "tenant", "mgmt"
NETWORKS = {EXTERNAL: "203.0.113.0/24", TENANT: "10.10.0.0/24", MGMT: "172.31.0.0/24"}
POD_NETWORK = "10.20.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
TENANT_GATEWAY = "10.10.0.1"
CLOUD_MGMT, CLOUD_EXTERNAL, CLOUD_PORT, AGENT_PORT = "172.31.0.2", "203.0.113.2", 8780, 8781
CLIENT_ADDRESS = "203.0.113.250"
MASTER_ADDRESS, API_PORT = "10.10.0.10", 6443
PROVIDER, NODE_PROXY = REPLACEABLE = ("provider", "node")  # parts that may run in the cluster's pods instead
NODE_LABEL = "vrata.dev/sandbox"  # of a Node: the sandbox that has it


@dataclass(frozen=True)
class Options:
    """What `vrata up` was asked for; kept, so that later calls mean the same sandbox."""

    name: str = "default"
    hosts: int = 2
    workers: int = 2
    kubeconfig: str = ""  # an API server to use instead of the sandbox's own
    controllers: bool | None = None  # of workloads; None: those that the cluster does not have itself
    without: tuple[str, ...] = ()  # parts that are left out: of REPLACEABLE
    advert_interval_ms: int = 50  # of VRRP; a dead host is noticed after 3.6 of them

    def grown(self, *, exists: bool, **given: object) -> "Options":
        """These options with what was given (not None) instead; a sandbox that exists can only grow."""
        wanted = replace(self, **{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]
        if exists:
            for key in ("hosts", "workers"):
                if getattr(wanted, key) < getattr(self, key):
                    raise InvalidInput(
                        f"--{key}", getattr(wanted, key), f"it has {getattr(self, key)}; `vrata down` first"
                    )
            if wanted.kubeconfig != self.kubeconfig:
                raise InvalidInput("--kubeconfig", wanted.kubeconfig, "it uses another API server; `vrata down` first")
        return wanted

    def check(self) -> None:
        """Raise InvalidInput for what cannot be built."""
        if not (
            self.name and len(self.name) <= NAME_MAX and self.name.replace("-", "").isalnum() and self.name.isascii()
        ):
            raise InvalidInput("--name", self.name, f"use 1 to {NAME_MAX} letters, digits and dashes")
        if not HOSTS_MIN <= self.hosts <= HOSTS_MAX:
            raise InvalidInput("--hosts", self.hosts, f"use {HOSTS_MIN} to {HOSTS_MAX}")
        if not ADVERT_MIN_MS <= self.advert_interval_ms <= ADVERT_MAX_MS:
            raise InvalidInput(
                "--advert-interval-ms", self.advert_interval_ms, f"use {ADVERT_MIN_MS} to {ADVERT_MAX_MS}"
            )
        if not WORKERS_MIN <= self.workers <= WORKERS_MAX:
            raise InvalidInput("--workers", self.workers, f"use {WORKERS_MIN} to {WORKERS_MAX}")


@dataclass(frozen=True)
class Link:
    """A cable from a machine into one of the fabric's bridges. `address` is a CIDR, empty for a bridge port."""

    network: str
    interface: str  # on the machine
    fabric_end: KernelName
    mac: str
    address: str = ""
    bridge: str = ""  # on the machine: the bridge this cable is plugged into


@dataclass(frozen=True)
class Machine:
    """One namespace. `bridges` maps the machine's own bridges to their address (CIDR, or empty)."""

    name: str
    role: str  # client, cloud, host, master, worker
    netns: KernelName
    links: tuple[Link, ...]
    bridges: dict[str, str] = field(default_factory=dict)
    routes: tuple[str, ...] = ()  # arguments of `ip route replace`
    pod_cidr: str = ""

    @property
    def address(self) -> str:
        """The first address, without prefix length."""
        return next((link.address.partition("/")[0] for link in self.links if link.address), "")


@dataclass(frozen=True)
class Topology:
    """All machines of one sandbox and the namespace with their switches."""

    fabric: KernelName
    machines: tuple[Machine, ...]

    def machine(self, name: str) -> Machine:
        """Look a machine up; InvalidInput names those that exist."""
        for machine in self.machines:
            if machine.name == name:
                return machine
        names = ", ".join(entry.name for entry in self.machines)
        raise InvalidInput("machine", name, f"use one of {names}")

    def of_role(self, *roles: str) -> tuple[Machine, ...]:
        """Machines of these roles, in order."""
        return tuple(machine for machine in self.machines if machine.role in roles)


def topology(options: Options) -> Topology:
    """Lay out a sandbox; the same options give the same names, on every call."""
    sandbox = options.name
    workers = [f"worker-{index}" for index in range(options.workers)]

    def link(machine: str, network: str, address: str = "", interface: str = "", bridge: str = "") -> Link:
        cidr = f"{address}/24" if address else ""
        end = kernel_name("f", sandbox, machine, network)
        mac = mac_address(sandbox, machine, network)
        return Link(network, interface or network, end, mac, cidr, bridge)

    def netns(machine: str) -> KernelName:
        return kernel_name("n", sandbox, machine)

    machines = [
        Machine("client", "client", netns("client"), (link("client", EXTERNAL, CLIENT_ADDRESS),)),
        Machine(
            "cloud",
            "cloud",
            netns("cloud"),
            (link("cloud", MGMT, CLOUD_MGMT), link("cloud", EXTERNAL, CLOUD_EXTERNAL)),
        ),
    ]
    for index in range(options.hosts):
        name = host_name(index)
        links = (
            link(name, MGMT, f"172.31.0.{11 + index}"),
            link(name, EXTERNAL, interface="up-external", bridge=EXTERNAL),
            link(name, TENANT, interface="up-tenant", bridge=TENANT),
        )
        machines.append(Machine(name, "host", netns(name), links, bridges={EXTERNAL: "", TENANT: ""}))
    default = f"default via {TENANT_GATEWAY}"
    pod_routes = {index: f"10.20.{index}.0/24 via {worker_address(index)}" for index in range(options.workers)}
    master_link = link("master-0", TENANT, MASTER_ADDRESS)
    machines.append(
        Machine("master-0", "master", netns("master-0"), (master_link,), routes=(default, *pod_routes.values()))
    )
    for index, name in enumerate(workers):
        others = tuple(route for other, route in pod_routes.items() if other != index)
        machines.append(
            Machine(
                name,
                "worker",
                netns(name),
                (link(name, TENANT, worker_address(index)),),
                bridges={"pods": f"10.20.{index}.1/24"},
                routes=(default, *others),
                pod_cidr=f"10.20.{index}.0/24",
            )
        )
    return Topology(netns("fabric"), tuple(machines))


def host_name(index: int) -> str:
    """host-a, host-b, …"""
    return f"host-{chr(ord('a') + index)}"


def worker_address(index: int) -> str:
    """The tenant address of a worker."""
    return f"10.10.0.{20 + index}"


def server_id(sandbox: str, machine: str) -> str:
    """The id a node would have as a server in the cloud: a UUID, stable for its name."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{machine}.{sandbox}.vrata"))
