"""kube-proxy and `vrata node` side by side: the same Services of a genuine API server, the same packets, the same answers.

Each serves the node of a yard of its own (tests/system/nodeport/yard.py). VRATA_TEST_KUBECONFIG names the cluster,
VRATA_KUBERNETES the folder with kube-proxy.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from tests.support.kubernetes import Cluster
from tests.system.nodeport.yard import NODE, PODS, PODS_6, PORT, Yard, yard

from vrata.net.command import CommandFailed, run
from vrata.net.netns import in_namespace
from vrata.nodeport.model import TABLE

Json = dict[str, Any]
pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMESPACE, HERE, ELSEWHERE = "proxies", "yard-node", "yard-elsewhere"
# Routed to the node, each of one Service.
EXTERNAL, EXTERNAL_2, BALANCER, BALANCER_2, BALANCER_3 = (f"10.96.200.{n}" for n in range(1, 6))
ASKED, READY_S = 24, 60.0
READY = {"ready": True, "serving": True, "terminating": False}
ENDING = {"ready": False, "serving": True, "terminating": True}
CLUSTER, NODE_PORT = "cluster", "node port"


@dataclass(frozen=True)
class Case:
    """A Service, its endpoints as (pod, node, conditions), and whom to ask for what, over which protocol."""

    name: str
    asks: tuple[tuple[str, str], ...]  # (client, address or port)
    ends: tuple[Json, ...] = ()
    spec: Json | None = None
    status: tuple[Json, ...] = ()
    labels: Json | None = None
    protocol: str = "TCP"
    family: str = "IPv4"
    better: str = ""  # why the answers differ


def end(pod: int, node: str = HERE, conditions: Json | None = None, **more: Any) -> Json:
    """One endpoint."""
    return {"addresses": [PODS[pod]], "nodeName": node, "conditions": conditions or READY, **more}


BOTH, FAR = (end(0), end(1)), (end(1, ELSEWHERE),)
EVERYBODY = ("client", "node", "pod")
LOCAL, LOCAL_INSIDE = {"externalTrafficPolicy": "Local"}, {"internalTrafficPolicy": "Local"}
NODE_PORTS = {"type": "NodePort"}
STICKY = {"sessionAffinity": "ClientIP"}
HINTED = tuple(end(n, zone=f"z{n}", hints={"forZones": [{"name": f"z{n}"}]}) for n in range(2))


def of(where: str, *clients: str) -> tuple[tuple[str, str], ...]:
    """Each client asks there."""
    return tuple((client, where) for client in clients or EVERYBODY)


CASES = (
    Case("spread", of(CLUSTER), BOTH),
    Case("itself", of(CLUSTER, "pod"), (end(2),)),
    Case("node-port", of(NODE_PORT), BOTH, NODE_PORTS),
    Case("nobody", of(CLUSTER) + of(NODE_PORT), (), NODE_PORTS),
    Case("not-ready", of(CLUSTER), (end(0, conditions={"ready": False, "serving": False, "terminating": False}),)),
    Case("ending", of(CLUSTER), (end(0, conditions=ENDING),)),
    Case("ending-beside-ready", of(CLUSTER), (end(0, conditions=ENDING), end(1))),
    Case("unknown-port", of("other port"), BOTH),
    Case("local", of(NODE_PORT) + of(CLUSTER), (end(0), end(1, ELSEWHERE)), NODE_PORTS | LOCAL),
    Case("local-far", of(NODE_PORT, "node", "pod"), FAR, NODE_PORTS | LOCAL),
    Case(
        "local-far-outside", of(NODE_PORT, "client"), FAR, NODE_PORTS | LOCAL,
        better="refused, so that a balancer asks another node at once; kube-proxy is silent",
    ),
    Case("inside-local-far", of(CLUSTER), FAR, LOCAL_INSIDE),
    Case("inside-local", of(CLUSTER), (end(0), end(1, ELSEWHERE)), LOCAL_INSIDE),
    Case("both-local-far", of(CLUSTER) + of(NODE_PORT, "node", "pod"), FAR, NODE_PORTS | LOCAL | LOCAL_INSIDE),
    Case("external", of(EXTERNAL), BOTH, {"externalIPs": [EXTERNAL]}),
    Case("external-nobody", of(EXTERNAL_2), (), {"externalIPs": [EXTERNAL_2]}),
    Case("balancer", of(BALANCER), BOTH, {"type": "LoadBalancer"}, ({"ip": BALANCER, "ipMode": "VIP"},)),
    Case(
        "balancer-sources", of(BALANCER_2), BOTH,
        {"type": "LoadBalancer", "loadBalancerSourceRanges": ["198.51.100.0/24"]}, ({"ip": BALANCER_2, "ipMode": "VIP"},),
    ),
    Case("balancer-proxy", of(BALANCER_3, "client"), BOTH, {"type": "LoadBalancer"}, ({"ip": BALANCER_3, "ipMode": "Proxy"},)),
    Case("affinity", of(CLUSTER) + of(NODE_PORT), BOTH, NODE_PORTS | STICKY),
    Case("hints", of(CLUSTER), HINTED, {"trafficDistribution": "PreferClose"}),
    Case("others", of(CLUSTER, "client"), BOTH, labels={"service.kubernetes.io/service-proxy-name": "another"}),
    Case("udp", of(CLUSTER) + of(NODE_PORT), (end(0),), NODE_PORTS, protocol="UDP"),
    Case("udp-nobody", of(CLUSTER), (), protocol="UDP"),
    Case("sctp", of(CLUSTER) + of(NODE_PORT, "client"), BOTH, NODE_PORTS, protocol="SCTP"),
    Case("six", of(CLUSTER) + of(NODE_PORT, "node"), BOTH, NODE_PORTS, family="IPv6"),
)  # fmt: skip


def objects_of(case: Case) -> list[Json]:
    """The Service and its slice."""
    port = {"name": "p", "port": PORT, "protocol": case.protocol, "targetPort": 8080}
    spec = {"ports": [port], "ipFamilies": [case.family], "ipFamilyPolicy": "SingleStack"} | (case.spec or {})
    meta = {"name": case.name, "namespace": NAMESPACE, "labels": case.labels or {}}
    ends = [
        one | {"addresses": [PODS_6[PODS.index(one["addresses"][0])]]} if case.family == "IPv6" else one
        for one in case.ends
    ]
    of_service = {"kubernetes.io/service-name": case.name}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec},
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": case.family, "endpoints": ends,
            "metadata": {"name": f"{case.name}-1", "namespace": NAMESPACE, "labels": of_service},
            "ports": [{"name": "p", "port": 8080, "protocol": case.protocol}],
        },
    ]  # fmt: skip


@contextmanager
def started(argv: list[str | Path], log: Path, netns: str = "") -> Iterator[None]:
    """A program in a namespace, for as long as the block lasts."""

    def start() -> subprocess.Popen[bytes]:
        with log.open("wb") as out:
            return subprocess.Popen(argv, stdout=out, stderr=out)

    process = in_namespace(netns, start) if netns else start()
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


@dataclass
class Side:
    """One proxy and its yard."""

    yard: Yard
    cluster: Cluster

    async def answers(self, case: Case) -> dict[str, list[str]]:
        """Who answers each client, from where; how many different ones where clients are bound to one."""
        service = self.cluster.get("-n", NAMESPACE, "service", case.name)["spec"]
        found = {}
        for client, where in case.asks:
            port = service["ports"][0].get("nodePort", 0) if where == NODE_PORT else PORT + (where == "other port")
            here = NODE if case.family == "IPv4" else "fd00:1::10"
            address = (
                here if where == NODE_PORT else service["clusterIP"] if where in (CLUSTER, "other port") else where
            )
            seen = await self._ask(client, address, port, case.protocol)
            bound = "sessionAffinity" in (case.spec or {})
            found[f"{client}: {where}"] = [str(len(seen))] if bound else sorted(seen)
        return found

    async def _ask(self, client: str, address: str, port: int, protocol: str) -> set[str]:
        pods = self.yard.pods
        machine = {"client": self.yard.client, "node": self.yard.node, "pod": pods[PODS[2]]}[client]
        seen: set[str] = set()
        for _ in range(ASKED):
            if protocol == "SCTP":
                one = await self.yard.associate(machine, address, port)
            else:
                one = await self.yard.ask(machine, address, port, udp=protocol == "UDP")
            seen.add(one)
            if one in ("refused", "silence"):
                break
        return seen


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sides(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Side]]:
    """Both proxies, each with every Service's rules written."""
    directory = tmp_path_factory.mktemp("proxies")
    kubeconfig = Path(os.environ["VRATA_TEST_KUBECONFIG"])
    cluster = Cluster(kubeconfig, directory / "cache")
    await asyncio.to_thread(_make, cluster)
    inside = yaml.safe_load(kubeconfig.read_text())
    inside["clusters"][0]["cluster"] |= {"server": f"https://{NODE}:6443", "tls-server-name": "127.0.0.1"}
    (directory / "kubeconfig").write_text(yaml.safe_dump(inside))
    reach = f"--kubeconfig={directory / 'kubeconfig'}"
    kube_proxy: list[str | Path] = [
        Path(os.environ["VRATA_KUBERNETES"]) / "kube-proxy", reach, "--proxy-mode=nftables", f"--hostname-override={HERE}",
        "--detect-local-mode=NodeCIDR", "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    ]  # fmt: skip
    pods = "--cluster-cidr=10.20.0.0/24,fd00:20::/64"
    ours: list[str | Path] = [sys.executable, "-m", "vrata", "node", reach, "--node", HERE, pods]
    async with AsyncExitStack() as stack:
        programs = stack.enter_context(ExitStack())
        made: dict[str, Side] = {}
        for name, argv in (("kube-proxy", kube_proxy), ("vrata node", ours)):
            site = await stack.enter_async_context(yard())
            netns = site.node.netns
            for family in ("ip", "ip6"):
                await run("nft", "delete", "table", family, TABLE, netns=netns)
            relay: list[str | Path] = [
                sys.executable,
                "-m",
                "vrata",
                "relay",
                "--kubeconfig",
                kubeconfig,
                "--netns",
                netns,
            ]
            programs.enter_context(started([*relay, "--listen", f"{NODE}:6443"], directory / f"{name}.relay"))
            programs.enter_context(started(argv, directory / f"{name}.log", netns))
            made[name] = Side(site, cluster)
        for name, side in made.items():
            await _until_served(side, directory / f"{name}.log")
        yield made


def _make(cluster: Cluster) -> None:
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": HERE, "labels": {"topology.kubernetes.io/zone": "z0"}},
    }
    node["spec"] = {"podCIDRs": ["10.20.0.0/24", "fd00:20::/64"], "podCIDR": "10.20.0.0/24"}
    space: Json = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    objects = [space, node, *(one for case in CASES for one in objects_of(case))]
    cluster.kubectl("apply", "-f", "-", stdin="\n---\n".join(json.dumps(one) for one in objects))
    addresses = [{"type": "InternalIP", "address": NODE}, {"type": "InternalIP", "address": "fd00:1::10"}]
    patch = json.dumps({"status": {"addresses": addresses}})
    cluster.kubectl("patch", "node", HERE, "--subresource=status", "--type=merge", "-p", patch)
    for case in CASES:
        if case.status:
            shown = json.dumps({"status": {"loadBalancer": {"ingress": case.status}}})
            target = (
                "-n",
                NAMESPACE,
                "patch",
                "service",
                case.name,
                "--subresource=status",
                "--type=merge",
                "-p",
                shown,
            )
            cluster.kubectl(*target)


async def _until_served(side: Side, log: Path) -> None:
    """The last Service's rules are there, and so are those of all others, which go with them."""
    last = next(case for case in CASES if case.name == "spread")
    async with asyncio.timeout(READY_S):
        while True:
            answers = await side.answers(last)
            if all(len(seen) == 2 for seen in answers.values()):
                return
            try:
                await asyncio.sleep(0.5)
            except asyncio.CancelledError:
                raise AssertionError(f"not served: {answers}\n{log.read_text()[-3000:]}") from None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_both_answer_the_same(sides: dict[str, Side], case: Case) -> None:
    try:
        theirs, ours = [await side.answers(case) for side in sides.values()]
    except CommandFailed as error:
        raise AssertionError(str(error)) from error
    if case.better:
        assert (theirs, ours) == ({"client: node port": ["silence"]}, {"client: node port": ["refused"]})
    else:
        assert ours == theirs
