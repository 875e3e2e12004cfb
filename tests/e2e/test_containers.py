"""Pods from images: the chart's own parts, installed by helm from the image of `make image`, serve as the sandbox's do.

Runs in `make test-chart`, which makes the image and names it in VRATA_TEST_IMAGE.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from tests.support.helm import CHART, helm
from tests.support.kubernetes import Cluster

from vrata import __version__
from vrata.sandbox.containers.runtime import mounts_below
from vrata.sandbox.demo.manifests import Json, echo_deployment, ingress, service
from vrata.sandbox.demo.stage import Stage
from vrata.sandbox.lifecycle import Sandbox
from vrata.sandbox.model import MASTER_ADDRESS, NODE_PROXY, POD_NETWORK, PROVIDER, Options

ARCHIVE = Path(os.environ["VRATA_TEST_IMAGE"])
IMAGE = f"vrata:{__version__}"
SYSTEM = "vrata-system"
INSTALL_S = 120

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(sandbox_home: Path) -> AsyncIterator[Stage]:
    """A sandbox without provider and node proxy of its own, with the image."""
    sandbox = Sandbox(Options(name="images", without=(PROVIDER, NODE_PROXY)))
    try:
        await sandbox.up(print, [ARCHIVE])
        yield Stage(sandbox, say=print)
    finally:
        await sandbox.down()
        assert not mounts_below(sandbox_home)
        assert not list(Path("/sys/fs/cgroup").glob("*/vrata.images.*"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installed(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """The chart with all its parts, ready: `helm install --wait` has said so."""
    home = tmp_path_factory.mktemp("helm")
    cloud = yaml.safe_load(stage.sandbox.paths.node_clouds.read_text())["clouds"]["vrata"]
    auth = cloud["auth"]
    conf = home / "cloud.conf"
    conf.write_text(
        f"[Global]\nauth-url = {auth['auth_url']}\nusername = {auth['username']}\npassword = {auth['password']}\n"
        f"tenant-name = {auth['project_name']}\ndomain-id = default\nregion = {cloud['region_name']}\n"
    )
    values = f"image.repository=vrata,ingress.podCidrs={{{POD_NETWORK}}},provider.clusterName=images"
    node = f"node.enabled=true,node.apiServer.host={MASTER_ADDRESS},node.clusterCidr={POD_NETWORK}"
    cluster = Cluster(stage.sandbox.paths.kubeconfig, home / "cache")
    argv = ["install", "vrata", str(CHART), "--namespace", SYSTEM, "--create-namespace", "--set", values, "--set", node]
    argv += ["--set-file", f"provider.cloud.config={conf}", "--wait", "--timeout", f"{INSTALL_S}s"]
    said = await asyncio.to_thread(helm, *argv, home=home, cluster=cluster)
    assert said.status == 0, f"{said.err}\n{await stage.kubectl('get', 'pods', '-A', '-o', 'wide')}"
    return stage


def container_pod(name: str, script: str, **container: object) -> Json:
    """A pod of the image that runs a shell script."""
    main: Json = {"name": "main", "image": IMAGE, "command": ["sh", "-c", script], **container}
    spec = {"containers": [main], "terminationGracePeriodSeconds": 1}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


async def status(stage: Stage, name: str) -> Json:
    """The first container's status; {} until there is one."""
    found = json.loads(await stage.kubectl("get", "pod", name, "-o", "json"))["status"]
    return dict((found.get("containerStatuses") or [{}])[0])


async def log(stage: Stage, pod: str, last: str) -> str:
    """A pod's log as soon as it has a line `last`."""

    async def whole() -> str:
        found = await stage.kubectl("logs", pod) if (await status(stage, pod)).get("containerID") else ""
        return found if last in found.splitlines() else ""

    return str(await stage.wait(f"{pod} says {last}", whole))


async def test_a_pod_without_root_has_no_capability_and_cannot_write_to_its_root(stage: Stage) -> None:
    context = {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    script = (
        "id -u; grep -E 'Cap|NoNewPrivs' /proc/self/status; touch /x 2>/dev/null || echo refused; "
        "echo kept >/tmp/file; cat /tmp/file;"
        "wc -l </etc/secret/a; head -c 3 /var/run/secrets/kubernetes.io/serviceaccount/token; echo; echo end; exec sleep 1000"
    )
    pod = container_pod("confined", script, securityContext=context)
    pod["spec"]["volumes"] = [
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "s", "secret": {"secretName": "s"}},
    ]
    pod["spec"]["containers"][0]["volumeMounts"] = [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        {"name": "s", "mountPath": "/etc/secret"},
    ]
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "1\n2\n"}}
    await stage.apply(pod)

    async def says_what_is_missing() -> bool:
        return 'secret "s" not found' in await stage.kubectl("get", "events")

    await stage.wait("an event names the missing Secret", says_what_is_missing)
    await stage.apply(secret)
    said = (await log(stage, "confined", "end")).split()
    assert said[0] == "65532"
    values = dict(zip(said[1:13:2], said[2:14:2], strict=True))
    assert values.pop("NoNewPrivs:") == "1"
    assert set(values) == {"CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"}
    assert set(values.values()) == {"0" * 16}
    assert said[-5:] == ["refused", "kept", "2", "eyJ", "end"]


async def test_a_container_over_its_memory_limit_is_killed_and_starts_again(stage: Stage) -> None:
    script = "echo go; exec /usr/lib/vrata/bin/python3 -c 'x = bytearray(400 << 20); input()'"
    await stage.apply(container_pod("greedy", script, resources={"limits": {"memory": "64Mi"}}))

    async def killed() -> Json:
        found = await status(stage, "greedy")
        return found["lastState"].get("terminated", {}) if found.get("restartCount") else {}

    ended = await stage.wait("it is killed and restarted", killed)
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
    await stage.kubectl("delete", "pod", "greedy", "--wait=false")


async def test_a_pod_that_cannot_run_says_why_in_an_event(stage: Stage) -> None:
    root = container_pod("root", "id", securityContext={"runAsUser": 0, "runAsNonRoot": True})
    nothing = container_pod("nothing", "")
    nothing["spec"]["containers"][0]["command"] = ["/no/such/program"]
    unknown = container_pod("unknown", "id", image="nginx:1")
    await stage.apply(root, nothing, unknown)

    async def all_said() -> bool:
        said = await stage.kubectl("get", "events", "-o", "custom-columns=M:.message", "--no-headers")
        return all(
            words in said
            for words in (
                "image 'nginx:1' is not in this sandbox; give it with `vrata up --image FILE`",
                "would run as root; set runAsUser",
                "/no/such/program",
            )
        )

    await stage.wait("three events", all_said)

    async def waits() -> bool:
        return bool((await status(stage, "unknown"))["state"].get("waiting", {}).get("reason") == "ImagePullBackOff")

    await stage.wait("it waits for its image", waits)
    await stage.kubectl("delete", "pod", "root", "nothing", "unknown", "--wait=false")


async def test_a_pod_ends_by_its_hook_and_at_last_by_force_and_leaves_nothing(stage: Stage) -> None:
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook >/proc/1/fd/1"]}}}
    stubborn = container_pod("stubborn", "trap '' TERM; echo up; while :; do sleep 0.1; done", lifecycle=hook)
    await stage.apply(stubborn)
    await log(stage, "stubborn", "up")
    await stage.kubectl("delete", "pod", "stubborn", "--timeout=60s")
    left = [
        name
        for folder in stage.sandbox.paths.root.glob("state/kubelet-*/pods/*/containers")
        for name in folder.iterdir()
    ]
    running = json.loads(await stage.kubectl("get", "pods", "-A", "-o", "json"))["items"]
    assert {name.parent.parent.name for name in left} <= {one["metadata"]["uid"] for one in running}


async def test_the_charts_pods_serve_a_load_balancer_and_an_ingress_through_a_rolling_update(installed: Stage) -> None:
    stage = installed
    pods = json.loads(await stage.kubectl("get", "pods", "-n", SYSTEM, "-o", "json"))["items"]
    assert {one["spec"]["containers"][0]["image"] for one in pods} == {IMAGE}
    assert all(one["status"]["containerStatuses"][0]["imageID"].startswith("sha256:") for one in pods)

    await stage.apply(echo_deployment("web"), service("web", "LoadBalancer"), ingress("web", {"web.example": "web"}))
    await stage.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    address = await stage.address_of("web")
    assert json.loads(await stage.until_answers("client", f"http://{address}/"))["service"] == "web"
    front = await stage.address_of("vrata-ingress", SYSTEM)
    by_name = ("-H", "Host: web.example")
    assert json.loads(await stage.until_answers("client", f"http://{front}/", *by_name))["service"] == "web"

    probe = await stage.start_probe("client", address, "--seconds", "600", "--timeout-ms", "5000")
    await stage.apply(echo_deployment("web", version="2"))
    await stage.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    await stage.kubectl("-n", SYSTEM, "rollout", "restart", "deployment/vrata-provider")
    await stage.kubectl("-n", SYSTEM, "rollout", "status", "deployment/vrata-provider", "--timeout=110s")
    counted = await stage.finish_probe(probe)
    assert counted["failed"] == 0, counted
    assert counted["sent"] > 0, counted


async def test_the_charts_node_proxy_serves_addresses_of_services_on_every_node(installed: Stage) -> None:
    """Also on the control plane, where only pods in the node's own network run."""
    await installed.apply(echo_deployment("inner"), service("inner", "ClusterIP"))
    await installed.kubectl("rollout", "status", "deployment/inner", "--timeout=90s")
    address = (await installed.object("service", "inner"))["spec"]["clusterIP"]
    for node in installed.sandbox.layout.of_role("master", "worker"):
        assert json.loads(await installed.until_answers(node.name, f"http://{address}/"))["service"] == "inner"
