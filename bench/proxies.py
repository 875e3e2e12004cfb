"""The proxies that the Ingress controller is measured beside, as somebody would run them, and the load on all of them."""

import asyncio
import base64
import contextlib
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import yaml

from vrata.net.command import run

# What somebody would write by hand for one Service, with the headers that every proxy adds.
BY_HAND = """\
global
  nbthread 2
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend http
  bind 127.0.0.1:{port}
  option forwardfor
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Real-IP %[src]
  default_backend pods
backend pods
  server one 127.0.0.1:{pod}
"""
# What our own has, too, so that a pod that ends costs no request.
RETRIES = "  option redispatch 1\n  retries 3\n  retry-on conn-failure empty-response\n"
NGINX = """\
worker_processes 2;
pid nginx.pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000;
  upstream pods {{
    server 127.0.0.1:{pod};
    keepalive 256;
    keepalive_requests 1000000;
  }}
  server {{
    listen 127.0.0.1:{port} reuseport;
    location / {{
      proxy_pass http://pods;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Host $host;
      proxy_set_header X-Forwarded-Port $server_port;
      proxy_set_header X-Forwarded-Proto http;
      proxy_set_header X-Real-IP $remote_addr;
    }}
  }}
}}
"""
# Another host each time, in an order that repeats only after all of them; made before the load begins, which then costs
# wrk as little as can be.
HOSTS = """\
local made, count, at = {{}}, {count}, 0
function init()
  for number = 1, count do
    made[number] = wrk.format("GET", "/", {{Host = "host-" .. {first} + number * {step} % count .. ".example"}})
  end
end
function request()
  at = at % count + 1
  return made[at]
end
"""
STEP = 7_919  # a prime, so that neighbours in the map are not neighbours in time
CONNECTIONS = 64
TURNS, TURN_S, REST_S = 30, 0.4, 0.05
RUNS, RUN_S = 5, 2  # for the latency


class Load(NamedTuple):
    """What a proxy has done under load."""

    rate: float  # requests a second
    p99_ms: float  # latency


@dataclass(frozen=True)
class Running:
    """Another Ingress controller."""

    port: int
    pid: int


def free_port() -> int:
    """A port nobody has right now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


async def measured(folder: Path, ports: dict[str, int], hosts: range) -> dict[str, Load]:
    """What each proxy does with requests for all of these hosts in turn, from connections that are kept."""
    script = folder / "hosts.lua"
    script.write_text(HOSTS.format(first=hosts.start, count=len(hosts), step=STEP))
    rates = await _rates(script, ports)
    tails = await _tails(script, ports)
    return {name: Load(rates[name], tails[name]) for name in ports}


async def _rates(script: Path, ports: dict[str, int]) -> dict[str, float]:
    """Requests a second.

    This machine is faster at one moment than at the next. So each proxy has a wrk of its own, of which one runs at a time:
    all get their turn within seconds, in another order each time, and a rate is over all turns.
    """
    loads = {name: _start(_wrk(script, port, 3600)) for name, port in ports.items()}
    ran_s = dict.fromkeys(ports, 0.0)
    try:
        for one in loads.values():
            one.send_signal(signal.SIGSTOP)
        for _ in range(TURNS):
            for name in random.sample(sorted(ports), len(ports)):
                began = time.monotonic()
                loads[name].send_signal(signal.SIGCONT)
                await asyncio.sleep(TURN_S)
                loads[name].send_signal(signal.SIGSTOP)
                ran_s[name] += time.monotonic() - began
                await asyncio.sleep(REST_S)  # what was under way ends
        counts = {name: _said(r"(\d+) requests in", _ended(one))[1] for name, one in loads.items()}
    finally:
        for one in loads.values():
            one.kill()
    return {name: float(count) / ran_s[name] for name, count in counts.items()}


async def _tails(script: Path, ports: dict[str, int]) -> dict[str, float]:
    """The latency of the slowest hundredth, ms: the median of several runs."""
    seen: dict[str, list[float]] = {name: [] for name in ports}
    for _ in range(RUNS):
        for name, port in ports.items():
            found = _said(r"99%\s+([0-9.]+)(us|ms|s)", await run(*_wrk(script, port, RUN_S), timeout_s=60))
            seen[name].append(float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]])
    return {name: statistics.median(found) for name, found in seen.items()}


def _start(argv: tuple[str, ...]) -> subprocess.Popen[str]:
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def _ended(load: subprocess.Popen[str]) -> str:
    """What it says at its end, which comes once its first thread hears a signal: others may be the first to."""
    load.send_signal(signal.SIGCONT)
    while True:
        load.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return load.communicate(timeout=0.05)[0]


def _wrk(script: Path, port: int, time_s: int) -> tuple[str, ...]:
    load = ("-t", "1", "-c", str(CONNECTIONS), "-d", f"{time_s}s", "--timeout", "60s", "--latency", "-s", str(script))
    # It goes with whoever started it, however that ends: one that is left behind would be in all later figures.
    return ("setpriv", "--pdeathsig", "KILL", "wrk", *load, f"http://127.0.0.1:{port}/")


def _said(pattern: str, text: str) -> re.Match[str]:
    """What wrk says of a load that all went well; RuntimeError if it did not."""
    found = re.search(pattern, text)
    if not found or "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(text)
    return found


@contextlib.contextmanager
def traefik(kubeconfig: Path, folder: Path) -> Iterator[Running]:
    """Traefik with the same Ingresses."""
    found = yaml.safe_load(kubeconfig.read_text())
    cluster, user = found["clusters"][0]["cluster"], found["users"][0]["user"]
    authority, token, port = folder / "ca.pem", folder / "token", free_port()
    authority.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    token.write_text(user["token"])
    argv = [str(Path(sys.executable).with_name("traefik")), f"--entrypoints.web.address=127.0.0.1:{port}"]
    argv += ["--providers.kubernetesingress=true", f"--providers.kubernetesingress.endpoint={cluster['server']}"]
    argv += [f"--providers.kubernetesingress.token={token}", "--providers.kubernetesingress.ingressclass=vrata"]
    argv += [
        f"--providers.kubernetesingress.certauthfilepath={authority}",
        "--log.level=ERROR",
        "--global.checknewversion=false",
    ]
    with (folder / "traefik.log").open("ab") as log:
        process = _proxy(argv, folder, log)
    try:
        yield Running(port, process.pid)
    finally:
        process.kill()
        process.wait()


def _proxy(argv: list[str], folder: Path, log: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """In a session of its own, as the controller starts its HAProxy: Linux shares the processor among sessions first.

    See sched(7), «The autogroup feature».
    """
    return subprocess.Popen(argv, stdout=log, stderr=log, cwd=folder, start_new_session=True)


def haproxy_here(text: str) -> contextlib.AbstractContextManager[None]:
    """A hand-written HAProxy on this machine."""
    return _here(text, "haproxy", "-db", "-f")


def nginx_here(text: str) -> contextlib.AbstractContextManager[None]:
    """A hand-written nginx on this machine."""
    return _here(text, "nginx", "-p", ".", "-g", "daemon off;", "-c")


@contextlib.contextmanager
def _here(text: str, *argv: str) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        file = Path(folder) / "config"
        file.write_text(text)
        process = _proxy([*argv, str(file)], Path(folder), subprocess.DEVNULL)
        try:
            time.sleep(0.5)
            yield
        finally:
            process.terminate()  # nginx' workers, too
            process.wait()
