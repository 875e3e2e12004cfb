"""Probes and lifecycle hooks: ask a container once; the pod's supervisor decides what an answer means.

httpGet succeeds on a status from 200 to 399, tcpSocket when a connection opens, exec on exit status 0 (Kubernetes
documentation, «Configure Liveness, Readiness and Startup Probes»).
"""

import asyncio
import ssl
from collections.abc import Sequence

from vrata.base.errors import VrataError
from vrata.net.command import run
from vrata.sandbox.kubelet.model import Container, Exec, HttpGet, LifecycleHandler, Probe, TcpSocket

RESPONSE_LINE_MAX = 4096


async def ask(
    probe: Probe | LifecycleHandler, container: Container, address: str, enter: Sequence[str], timeout_s: float
) -> bool:
    """Run one probe or hook; False if it fails or takes longer than `timeout_s`. `enter`: the words before a command."""
    try:
        async with asyncio.timeout(timeout_s):
            if probe.http_get:
                return await _http_get(probe.http_get, container, address)
            if probe.tcp_socket:
                return await _tcp_socket(probe.tcp_socket, container, address)
            if probe.exec:
                return await _exec(probe.exec, enter)
            if isinstance(probe, LifecycleHandler) and probe.sleep:
                await asyncio.sleep(probe.sleep.seconds)
    except (OSError, TimeoutError, VrataError, ValueError):
        return False
    return True


async def _http_get(get: HttpGet, container: Container, address: str) -> bool:
    tls: ssl.SSLContext | None = None
    if get.scheme == "HTTPS":
        tls = ssl.create_default_context()
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE  # as the kubelet: a probe does not verify
    host = get.host or address
    reader, writer = await asyncio.open_connection(host, container.port_number(get.port), ssl=tls)
    try:
        headers = {"Host": host, "User-Agent": "kube-probe/1.37", "Connection": "close"}
        headers.update({header.name: header.value for header in get.http_headers})
        lines = [f"GET {get.path or '/'} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        if any("\r" in line or "\n" in line for line in lines):
            return False
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await writer.drain()
        words = (await reader.readline())[:RESPONSE_LINE_MAX].split()
        return len(words) >= 2 and words[1].isdigit() and 200 <= int(words[1]) < 400
    finally:
        writer.close()


async def _tcp_socket(socket: TcpSocket, container: Container, address: str) -> bool:
    _, writer = await asyncio.open_connection(socket.host or address, container.port_number(socket.port))
    writer.close()
    return True


async def _exec(command: Exec, enter: Sequence[str]) -> bool:
    await run(*enter, *command.command, timeout_s=3600)
    return True
