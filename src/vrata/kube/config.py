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
    tls: ssl.SSLContext | None = None  # takes the certificate that a plugin may give
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    _certified: bool = field(default=False, repr=False)
    _read_at_s: float = field(default=float("-inf"), repr=False)
    _expires: datetime | None = field(default=None, repr=False)

    async def bearer(self, *, renew: bool = False) -> str:
        """The token to send, empty if none; `renew` after a 401 drops what is cached."""
        if self.exec_plugin:
            known = self.token
            async with self._lock:  # the first requests come together, and so do those that are refused
                expired = self._expires is not None and clock.now() + EXPIRY_MARGIN > self._expires
                wanted = expired or not (self.token or self._certified) or (renew and self.token == known)
                if wanted:
                    await self._run_plugin(self.exec_plugin)
        elif self.token_file and (renew or clock.monotonic_s() - self._read_at_s > TOKEN_FILE_REREAD_S):
            self.token = self.token_file.read_text().strip()
            self._read_at_s = clock.monotonic_s()
        return self.token

    async def _run_plugin(self, plugin: dict[str, Any]) -> None:
        api_version = plugin.get("apiVersion", "client.authentication.k8s.io/v1")
        request = {"apiVersion": api_version, "kind": "ExecCredential", "spec": {"interactive": False}}
        env = {entry["name"]: entry["value"] for entry in plugin.get("env") or []}
        try:
            process = await asyncio.create_subprocess_exec(
                plugin["command"],
                *(plugin.get("args") or []),
                env={**os.environ, **env, "KUBERNETES_EXEC_INFO": json.dumps(request)},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            remedy = plugin.get("installHint") or "install it, or correct users.user.exec.command in the kubeconfig"
            raise VrataError(f"credential plugin {plugin['command']!r}: {error.strerror}", remedy=remedy) from error
        async with asyncio.timeout(EXEC_TIMEOUT_S):
            stdout, stderr = await process.communicate()
        said = stderr.decode(errors="replace").strip()
        if process.returncode:
            raise VrataError(
                f"credential plugin {plugin['command']!r} ended with {process.returncode}: {said}",
                remedy="run it by hand with the kubeconfig's arguments",
            )
        try:
            status = json.loads(stdout)["status"]
        except (ValueError, KeyError, TypeError) as error:
            raise VrataError(
                f"credential plugin {plugin['command']!r} did not print an ExecCredential: {said}",
                remedy="run it by hand with the kubeconfig's arguments",
            ) from error
        certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
        if certificate and key and self.tls:
            _load_certificate(self.tls, certificate.encode(), key.encode())
            self._certified = True
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
    named = [str(path)] if path else os.environ.get("KUBECONFIG", "").split(os.pathsep)
    document = read_document([Path(one) for one in named if one] or [Path.home() / ".kube/config"])
    name = context or document.get("current-context")
    chosen = _named(document, "contexts", "context", name)
    cluster = _named(document, "clusters", "cluster", chosen.get("cluster"))
    user = _named(document, "users", "user", chosen.get("user")) if chosen.get("user") else {}
    server = cluster.get("server")
    if not isinstance(server, str) or not server.startswith(("http://", "https://")):
        raise InvalidInput("clusters.cluster.server", server, "want an http:// or https:// URL")
    token_file = user.get("tokenFile")
    tls = _tls(cluster, user) if server.startswith("https") else None
    return KubeConfig(
        server=server.rstrip("/"),
        tls=tls,
        credentials=Credentials(
            token=user.get("token", ""),
            token_file=Path(token_file) if token_file else None,
            exec_plugin=user.get("exec"),
            tls=tls,
        ),
        namespace=chosen.get("namespace") or "default",
        tls_server_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
    )


def authority(path: Path) -> bytes:
    """The certificates by which the current context's API server is known; empty if the kubeconfig names none."""
    document = read_document([path])
    chosen = _named(document, "contexts", "context", document.get("current-context"))
    return _bytes(_named(document, "clusters", "cluster", chosen.get("cluster")), "certificate-authority") or b""


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


def read_document(files: list[Path]) -> dict[str, Any]:
    """One document of several files: of what is in more than one the first counts; paths become absolute."""
    merged: dict[str, Any] = {"apiVersion": "v1", "kind": "Config"}
    present = [file for file in files if file.exists()]
    if not present:
        raise InvalidInput("kubeconfig", os.pathsep.join(map(str, files)), "name a file that exists")
    for file in present:
        try:
            document = yaml.safe_load(file.read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            where = getattr(error, "problem_mark", None)
            line = f" in line {where.line + 1}" if where else ""
            raise InvalidInput("kubeconfig", str(file), f"name a file in YAML; this one is none{line}") from None
        if not isinstance(document, dict):
            raise InvalidInput("kubeconfig", str(file), "want a document of kind Config")
        merged["current-context"] = merged.get("current-context") or document.get("current-context")
        for section, inner in (("contexts", "context"), ("clusters", "cluster"), ("users", "user")):
            found = merged.setdefault(section, [])
            for entry in document.get(section) or []:
                found.append({**entry, inner: _absolute(entry.get(inner) or {}, file.parent)})
    return merged


def _absolute(entry: dict[str, Any], base: Path) -> dict[str, Any]:
    """Files are meant from where the kubeconfig lies, and so is a plugin that is named by a path."""
    files = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
    out: dict[str, Any] = {key: str(base / value) if key in files and value else value for key, value in entry.items()}
    plugin = out.get("exec")
    if plugin and "/" in str(plugin.get("command", "")):
        out["exec"] = {**plugin, "command": str(base / plugin["command"])}
    return out


def _named(document: dict[str, Any], section: str, inner: str, name: object) -> dict[str, Any]:
    for entry in document.get(section) or []:
        if entry.get("name") == name:
            found = entry.get(inner) or {}
            assert isinstance(found, dict)
            return found
    raise InvalidInput(f"kubeconfig {section}", name, f"no entry of that name in {section}")


def _tls(cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    authority = _bytes(cluster, "certificate-authority")
    tls = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    certificate, key = _bytes(user, "client-certificate"), _bytes(user, "client-key")
    if certificate and key:
        _load_certificate(tls, certificate, key)
    return tls


def _load_certificate(tls: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Show this certificate on new connections. ssl reads from files only; the file lives as long as the call."""
    with tempfile.NamedTemporaryFile(suffix=".pem") as both:
        both.write(certificate + b"\n" + key)
        both.flush()
        tls.load_cert_chain(both.name)


def _bytes(section: dict[str, Any], key: str) -> bytes | None:
    if data := section.get(f"{key}-data"):
        try:
            return base64.b64decode(data, validate=False)
        except binascii.Error:
            raise InvalidInput(f"{key}-data", "…", "want base64") from None
    if file := section.get(key):
        try:
            return Path(file).read_bytes()
        except OSError as error:
            raise InvalidInput(key, file, f"name a file that can be read ({error.strerror})") from None
    return None
