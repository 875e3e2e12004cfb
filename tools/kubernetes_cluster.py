"""A genuine Kubernetes for tools and tests: built from Go modules, its objects in Debian's etcd.

Usage: python tools/kubernetes_cluster.py    builds the programs into build/interop-kubernetes (with Go)

API server, controller manager and scheduler listen on loopback; nodes come from whoever uses the cluster. The release is the
one in tests/interop/kubernetes/go.mod. Go keeps modules and objects in its own caches: a second build takes seconds.
"""

import contextlib
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import lab

from vrata.sandbox import model
from vrata.sandbox.apiserver import pki

MODULE = lab.ROOT / "tests/interop/kubernetes"
PROGRAMS = lab.ROOT / "build/interop-kubernetes"
NAMES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
SERVICES = f"{model.SERVICE_NETWORK},fd00:96::/112"
ETCD, ETCD_PEERS = "http://127.0.0.1:2379", "http://127.0.0.1:2380"


def version() -> str:
    """The release, such as v1.36.3."""
    found = re.search(r"^require k8s.io/kubernetes (v\S+)$", (MODULE / "go.mod").read_text(), re.MULTILINE)
    assert found
    return found[1]


def build() -> None:
    """Build what is missing or of another release."""
    if shutil.which("go") is None:
        raise SystemExit("interop: there is no Go toolchain (`go`) on this machine")
    began = time.monotonic()
    PROGRAMS.mkdir(parents=True, exist_ok=True)
    flags = f"-s -w -X k8s.io/component-base/version.gitVersion={version()}"
    argv = ["go", "build", "-trimpath", "-ldflags", flags, "-o", f"{PROGRAMS}/"]
    print(f"interop: building Kubernetes {version()}", flush=True)
    done = subprocess.run([*argv, *(f"k8s.io/kubernetes/cmd/{name}" for name in NAMES)], cwd=MODULE, check=False)
    if done.returncode:
        raise SystemExit("interop: the build failed; what Go said is above")
    print(f"interop: built in {time.monotonic() - began:.0f} s", flush=True)


@contextlib.contextmanager
def cluster(directory: Path) -> Iterator[Path]:
    """Everything up, for as long as the block lasts; the kubeconfig of an administrator."""
    # Pods find the API server where the sandbox's relay brings it (`vrata up --kubeconfig`).
    credentials = pki.prepare(directory / "pki", (model.MASTER_ADDRESS, "10.96.0.1"))
    (directory / "tokens").write_text(f"{credentials.token},admin,1,system:masters\n")
    accounts = directory / "accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", accounts, "2048"], check=True, capture_output=True)
    kubeconfig = directory / "kubeconfig"
    pki.write_kubeconfig(kubeconfig, f"https://127.0.0.1:{model.API_PORT}", credentials, "kubernetes")
    trusting = ssl.create_default_context(cafile=str(credentials.ca_file))
    serving = [f"--tls-cert-file={credentials.certificate_file}", f"--tls-private-key-file={credentials.key_file}"]
    api = [
        f"--etcd-servers={ETCD}", "--bind-address=127.0.0.1", f"--secure-port={model.API_PORT}",
        f"--advertise-address={model.MASTER_ADDRESS}", f"--service-cluster-ip-range={SERVICES}",
        f"--service-account-key-file={accounts}", f"--service-account-signing-key-file={accounts}",
        "--service-account-issuer=https://kubernetes.default.svc", f"--token-auth-file={directory / 'tokens'}",
        "--authorization-mode=RBAC", "--allow-privileged", *serving,
    ]  # fmt: skip
    manager = [
        f"--kubeconfig={kubeconfig}", f"--service-account-private-key-file={accounts}", "--bind-address=127.0.0.1",
        f"--root-ca-file={credentials.ca_file}", "--use-service-account-credentials", *serving,
        "--node-monitor-grace-period=1h",  # most tests' nodes have no kubelet
    ]  # fmt: skip
    scheduler = [f"--kubeconfig={kubeconfig}", "--bind-address=127.0.0.1", *serving]
    etcd = [
        "etcd",
        f"--data-dir={directory / 'etcd'}",
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
    ]
    etcd += [f"--listen-peer-urls={ETCD_PEERS}"]
    with contextlib.ExitStack() as stack:
        stack.enter_context(lab.running(etcd, directory / "etcd.log", f"{ETCD}/health"))
        for name, options, port in (
            (NAMES[0], api, model.API_PORT),
            (NAMES[1], manager, 10257),
            (NAMES[2], scheduler, 10259),
        ):
            url = f"https://127.0.0.1:{port}/healthz"
            argv = [PROGRAMS / name, *options]
            stack.enter_context(lab.running(argv, directory / f"{name}.log", url, tls=trusting))
        yield kubeconfig


if __name__ == "__main__":
    build()
