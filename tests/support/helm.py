"""The real helm (`tools/helm`) with the chart of this repository."""

import os
import subprocess
from pathlib import Path
from typing import Any

import yaml
from tests.support.kubernetes import Cluster, Said

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/chart"
HELM = ROOT / "build/helm/helm"
HELM_S = 300.0
DIGEST = f"sha256:{'0' * 64}"
# The least that an installation says.
GIVEN = (
    "--set",
    f"image.repository=registry.example/vrata,image.digest={DIGEST},provider.cloud.existingSecret=cloud-config",
)
EVERYTHING = (
    *GIVEN, "--set", "node.enabled=true,node.apiServer.host=192.0.2.1,node.clusterCidr=10.20.0.0/16",
    "--set", "provider.restrictAnnotations=true,provider.hostNetwork=true,ingress.ingressClass.default=true",
    "--set", "ingress.tcpServices.9000=default/a:80:PROXY,ingress.udpServices.53=kube-system/dns:53",
)  # fmt: skip


def helm(*arguments: str, home: Path, cluster: Cluster | None = None) -> Said:
    """Run helm, whatever it ends with; its own files are below `home`."""
    assert HELM.exists(), f"no {HELM.relative_to(ROOT)}; run tools/helm"
    own = {f"HELM_{one}_HOME": str(home / one.lower()) for one in ("CACHE", "CONFIG", "DATA")}
    environment = (cluster.environment() if cluster else {**os.environ, "KUBECONFIG": "/dev/null"}) | own
    done = subprocess.run(
        [HELM, *arguments], env=environment, capture_output=True, text=True, timeout=HELM_S, check=False
    )
    return Said(done.returncode, done.stdout, done.stderr)


def render(*values: str, home: Path, name: str = "vrata", namespace: str = "kube-system") -> list[dict[str, Any]]:
    """The objects that an installation with these values makes."""
    said = helm("template", name, str(CHART), "--namespace", namespace, *values, home=home)
    assert said.status == 0, said.err
    return [one for one in yaml.safe_load_all(said.out) if one]
