"""`vrata apiserver`: the sandbox's Kubernetes API."""

import ipaddress
import os
import socket
from pathlib import Path

import click

from vrata.base.errors import VrataError
from vrata.cli import types

BACKLOG = 512


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit() or int(port) > 65535:
        raise VrataError(f"--listen {address}: not HOST:PORT", remedy="say e.g. 127.0.0.1:6443")
    try:
        return socket.create_server((host, int(port)), family=_family(host), backlog=BACKLOG, reuse_port=False)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise VrataError(f"cannot listen on {address}: {why}", remedy="choose another --listen") from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _port_range(text: str) -> range:
    first, _, last = text.partition("-")
    if not (first.isdigit() and last.isdigit() and 0 < int(first) <= int(last) < 65536):
        raise VrataError(f"--node-port-range {text}: not FIRST-LAST", remedy="say e.g. 30000-32767")
    return range(int(first), int(last) + 1)


@click.command()
@click.option(
    "--data-dir", type=click.Path(path_type=Path, file_okay=False), required=True, help="Database, CA, certificate."
)
@click.option(
    "--listen",
    "listens",
    type=types.LISTEN,
    multiple=True,
    metavar="HOST:PORT",
    help="Where to listen; repeatable; port 0 is any.",
)
@click.option(
    "--listen-fd",
    "descriptors",
    type=types.DESCRIPTOR,
    multiple=True,
    metavar="N",
    help="An inherited listening socket.",
)
@click.option(
    "--token-file", type=click.Path(path_type=Path, dir_okay=False), help="Default: token in the data directory."
)
@click.option(
    "--san",
    "sans",
    type=types.WORD,
    multiple=True,
    metavar="IP_OR_NAME",
    help="Further names of the certificate; repeatable.",
)
@click.option(
    "--service-cidr",
    type=types.NETWORKS,
    default="10.96.0.0/16",
    show_default=True,
    help="With a comma, one of IPv6, too.",
)
@click.option("--node-port-range", type=types.PORTS, default="30000-32767", show_default=True)
@click.option(
    "--kubeconfig", type=click.Path(path_type=Path, dir_okay=False), help="Write a kubeconfig for the first listener."
)
def command(
    data_dir: Path,
    listens: tuple[str, ...],
    descriptors: tuple[int, ...],
    token_file: Path | None,
    sans: tuple[str, ...],
    service_cidr: str,
    node_port_range: str,
    kubeconfig: Path | None,
) -> None:
    """Serve the sandbox's Kubernetes API over TLS. Writes DATA_DIR/ca.crt and, if absent, the token."""
    import uvloop

    from vrata.base import log
    from vrata.sandbox.apiserver import pki
    from vrata.sandbox.apiserver.server import Server, Settings

    log.configure()
    try:
        first, _, second = service_cidr.partition(",")
        cidr, cidr_6 = ipaddress.IPv4Network(first), ipaddress.IPv6Network(second) if second else None
    except ValueError as error:
        raise VrataError(
            f"--service-cidr {service_cidr}: {error}", remedy="say e.g. 10.96.0.0/16,fd00:96::/112"
        ) from error
    settings = Settings(data_dir, cidr, _port_range(node_port_range), cidr_6)
    sockets = [_listen(address) for address in listens or (() if descriptors else ("127.0.0.1:6443",))]
    sockets += [socket.socket(fileno=number) for number in descriptors]
    addresses = [str(opened.getsockname()[0]) for opened in sockets]
    credentials = pki.prepare(data_dir, (*sans, str(cidr[1]), *addresses), token_file)
    if kubeconfig is not None:
        host, port = sockets[0].getsockname()[:2]
        pki.write_kubeconfig(kubeconfig, f"https://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}", credentials)
    os.umask(0o077)

    async def serve() -> None:
        await Server(settings, credentials).run(sockets)

    uvloop.run(serve())
