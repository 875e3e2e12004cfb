"""Settings of one node's kubelet."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Who this node is. `bridge` is the node's pod bridge, which holds the first address of `pod_cidr`."""

    sandbox: str
    node: str
    address: str  # InternalIP
    pod_cidr: str  # e.g. 10.20.0.0/24; empty: this node runs no pods
    state_dir: Path
    kubeconfig: Path  # of this kubelet; pods find it in $KUBECONFIG
    images: Path | None = None  # the sandbox's images; None: pods are processes
    bridge: str = "pods"
    port: int = 10250
    provider_id: str = ""
    taints: tuple[str, ...] = ()  # KEY:EFFECT

    @property
    def gateway(self) -> str:
        """The pods' next hop: the first address of the node's pod network."""
        return str(ipaddress.ip_network(self.pod_cidr)[1])
