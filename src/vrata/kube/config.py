"""Where the API server is and how to prove who we are: kubeconfig files and the in-cluster service account.

Implements what client-go reads from a kubeconfig (Kubernetes documentation, «Organizing Cluster Access Using
kubeconfig Files») except the legacy auth-provider plugins: bearer tokens, token files, client certificates, basic
CA settings, `tls-server-name`, `proxy-url` and exec credential plugins (client.authentication.k8s.io/v1 and v1beta1).
"""

import asyncio
import base64
import binascii
import json
import os
import ssl
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from vrata.base import clock
from vrata.base.errors import InvalidInput, VrataError

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_FILE_REREAD_S = 60.0  # the kubelet rotates bound tokens; client-go re-reads each minute
EXEC_TIMEOUT_S = 60.0
EXPIRY_MARGIN = timedelta(seconds=30)


@dataclass
class Credentials:
    """Yields the bearer token of the moment, from whichever source the configuration names."""

    token: str = ""
    token_file: Path | None = None
    exec_plugin: dict[str, Any] | None = None
    _read_at_s: float = field(default=float("-inf"), repr=False)
    _expires: datetime | None = field(default=None, repr=False)

    async def bearer(self, *, renew: bool = False) -> str:
        """The token to send, empty if none; `renew` after a 401 drops what is cached."""
        if self.exec_plugin:
            expired = self._expires is not None and clock.now() + EXPIRY_MARGIN > self._expires
            if renew or expired or not self.token:
                await self._run_plugin(self.exec_plugin)
        elif self.token_file and (renew or clock.monotonic_s() - self._read_at_s > TOKEN_FILE_REREAD_S):
            self.token = self.token_file.read_text().strip()
            self._read_at_s = clock.monotonic_s()
        return self.token

    async def _run_plugin(self, plugin: dict[str, Any]) -> None:
        api_version = plugin.get("apiVersion", "client.authentication.k8s.io/v1")
        request = {"apiVersion": api_version, "kind": "ExecCredential", "spec": {"interactive": False}}
        env = {entry["name"]: entry["value"] for entry in plugin.get("env") or []}
        process = await asyncio.create_subprocess_exec(
            plugin["command"],
            *(plugin.get("args") or []),
            env={**os.environ, **env, "KUBERNETES_EXEC_INFO": json.dumps(request)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(EXEC_TIMEOUT_S):
            stdout, stderr = await process.communicate()
        if process.returncode:
            raise VrataError(
                f"credential plugin {plugin['command']!r} ended with {process.returncode}: {stderr.decode().strip()}",
                remedy="run it by hand with the kubeconfig's arguments",
            )
        status = json.loads(stdout)["status"]
        self.token = status.get("token", "")
        expires = status.get("expirationTimestamp")
        self._expires = datetime.fromisoformat(expires) if expires else None


@dataclass(frozen=True)
class KubeConfig:
    """One API server and one identity. `tls` is None for plain HTTP."""

    server: str
    tls: ssl.SSLContext | None
    credentials: Credentials
    namespace: str = "default"
    tls_server_name: str | None = None
    proxy: str | None = None


def load(path: str | Path | None = None, context: str | None = None) -> KubeConfig:
    """Read a kubeconfig: `path`, else $KUBECONFIG, else the service account of the pod, else ~/.kube/config.

    Raises InvalidInput naming the field that is missing or wrong.
    """
    if path is None and not os.environ.get("KUBECONFIG") and (SERVICE_ACCOUNT_DIR / "token").exists():
        return in_cluster()
    file = Path(path or os.environ.get("KUBECONFIG") or Path.home() / ".kube/config")
    try:
        document = yaml.safe_load(file.read_text())
    except FileNotFoundError:
        raise InvalidInput("kubeconfig", str(file), "name a file that exists") from None
    except yaml.YAMLError as error:
        raise InvalidInput("kubeconfig", str(file), f"not YAML: {error}") from None
    if not isinstance(document, dict):
        raise InvalidInput("kubeconfig", str(file), "want a document of kind Config")
    name = context or document.get("current-context")
    chosen = _named(document, "contexts", "context", name)
    cluster = _named(document, "clusters", "cluster", chosen.get("cluster"))
    user = _named(document, "users", "user", chosen.get("user")) if chosen.get("user") else {}
    base = file.parent
    server = cluster.get("server")
    if not isinstance(server, str) or not server.startswith(("http://", "https://")):
        raise InvalidInput("clusters.cluster.server", server, "want an http:// or https:// URL")
    token_file = user.get("tokenFile")
    return KubeConfig(
        server=server.rstrip("/"),
        tls=_tls(cluster, user, base) if server.startswith("https") else None,
        credentials=Credentials(
            token=user.get("token", ""),
            token_file=base / token_file if token_file else None,
            exec_plugin=user.get("exec"),
        ),
        namespace=chosen.get("namespace") or "default",
        tls_server_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
    )


def in_cluster() -> KubeConfig:
    """The pod's service account (Kubernetes documentation, «Accessing the Kubernetes API from a Pod»)."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise InvalidInput("KUBERNETES_SERVICE_HOST", host, "run in a pod, or give --kubeconfig")
    return KubeConfig(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        tls=ssl.create_default_context(cafile=str(SERVICE_ACCOUNT_DIR / "ca.crt")),
        credentials=Credentials(token_file=SERVICE_ACCOUNT_DIR / "token"),
        namespace=(SERVICE_ACCOUNT_DIR / "namespace").read_text().strip(),
    )


def _named(document: dict[str, Any], section: str, inner: str, name: object) -> dict[str, Any]:
    for entry in document.get(section) or []:
        if entry.get("name") == name:
            found = entry.get(inner) or {}
            assert isinstance(found, dict)
            return found
    raise InvalidInput(f"kubeconfig {section}", name, f"no entry of that name in {section}")


def _tls(cluster: dict[str, Any], user: dict[str, Any], base: Path) -> ssl.SSLContext:
    authority = _bytes(cluster, "certificate-authority", base)
    tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    certificate, key = _bytes(user, "client-certificate", base), _bytes(user, "client-key", base)
    if certificate and key:
        # ssl reads certificates from files only; the file lives as long as the call.
        with tempfile.NamedTemporaryFile(suffix=".pem") as both:
            both.write(certificate + b"\n" + key)
            both.flush()
            tls.load_cert_chain(both.name)
    return tls


def _bytes(section: dict[str, Any], key: str, base: Path) -> bytes | None:
    if data := section.get(f"{key}-data"):
        try:
            return base64.b64decode(data, validate=False)
        except binascii.Error:
            raise InvalidInput(f"{key}-data", "…", "want base64") from None
    if file := section.get(key):
        return (base / str(file)).read_bytes()
    return None
