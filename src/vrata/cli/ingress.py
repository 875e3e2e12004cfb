"""`vrata ingress`: the Ingress controller, as a Deployment's container runs it."""

import ipaddress
import secrets
import socket
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import click

from vrata.base.errors import InvalidInput
from vrata.cli import ingress_check, ingress_explain, ingress_webhook, types
from vrata.cli.operations import telling
from vrata.cli.running import run_until_signalled
from vrata.kube import config, manifests
from vrata.kube.client import Kube

LEASE_DURATION_S = 15  # a dead replica's statuses stay true meanwhile: nobody waits for the next one's


@click.group(invoke_without_command=True, epilog="Example: vrata ingress --publish-service vrata-ingress/vrata-ingress")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Default: $KUBECONFIG, the pod's service account.")
@click.option("--manifest", is_flag=True, help="Print the manifest that installs the controller, and end.")
@click.option("--image", type=types.IMAGE, metavar="NAME", help="Beside --manifest, required: the image of its pods.")
@click.option(
    "--publish-service",
    type=types.KEY,
    metavar="NAMESPACE/NAME",
    help="Service in front of the controller; its address is written into Ingress statuses.",
)
@click.option(
    "--lease",
    type=types.KEY,
    metavar="NAMESPACE/NAME",
    help="The replica that holds it writes Ingress statuses; all replicas route.",
)
@click.option("--http-port", type=types.PORT, default=8080, show_default=True)
@click.option("--https-port", type=types.PORT, default=8443, show_default=True)
@click.option("--health-port", type=types.PORT, default=8081, show_default=True, help="HAProxy's: /healthz, /metrics.")
@click.option("--operations-port", type=click.IntRange(0, 65535), help="This process': /healthz, /readyz, /metrics.")
@click.option(
    "--proxy-protocol/--no-proxy-protocol", default=True, show_default=True, help="Expected from the balancer."
)
@click.option(
    "--proxy-protocol-from",
    "proxies",
    type=types.NETWORK,
    metavar="NETWORK",
    multiple=True,
    help="Expected from these only, such as 10.0.0.0/24; others come without. May be repeated.  [default: the balancer in front]",
)
@click.option(
    "--forwarded-from",
    "forwarded",
    type=types.NETWORK,
    metavar="NETWORK",
    multiple=True,
    help="Believe X-Forwarded-For from these, such as a CDN's networks; its last address counts. May be repeated.",
)
@click.option(
    "--drain",
    "drain_s",
    type=click.IntRange(0, 86400),
    default=25,
    show_default=True,
    help="Seconds for requests under way to end when the controller stops.",
)
@click.option(
    "--spare-backends",
    type=click.IntRange(0, 100_000),
    default=256,
    show_default=True,
    help="Backends prepared for new Services; when they run out, HAProxy before 3.4 reloads. At least a quarter of those in use.",
)
@click.option(
    "--tcp-services-configmap",
    "tcp_services",
    type=types.KEY,
    metavar="NAMESPACE/NAME",
    help='Ports and TCP Services behind them, as ingress-nginx has it: "9000": "default/example:8080".',
)
@click.option(
    "--udp-services-configmap",
    "udp_services",
    type=types.KEY,
    metavar="NAMESPACE/NAME",
    help='Ports and UDP Services behind them: "53": "kube-system/kube-dns:53".',
)
@click.option(
    "--ssl-passthrough",
    is_flag=True,
    help="Serve Ingresses whose pods end TLS; every HTTPS connection then passes one more frontend.",
)
@click.option(
    "--shared-hosts",
    is_flag=True,
    help="Rules of every namespace are for every host, as in ingress-nginx. "
    "Default: a host belongs to the namespace of its oldest Ingress.",
)
@click.option(
    "--replica",
    type=types.IP,
    metavar="ADDRESS",
    help="Address of this pod; with it rate limits are shared with the other pods behind --publish-service.",
)
@click.option(
    "--replicas-port",
    type=types.PORT,
    default=10102,
    show_default=True,
    help="Port of every pod for sharing rate limits.",
)
@click.option(
    "--host-metrics",
    type=click.IntRange(0, 1_000_000),
    default=0,
    show_default=True,
    help="Count requests, errors and bytes for at most this many hosts.",
)
@click.option(
    "--access-log",
    type=types.ACCESS_LOG,
    metavar="TARGET",
    help="A JSON line for each request: ADDRESS:PORT (syslog over UDP) or a socket's path.",
)
@click.option(
    "--header-bytes",
    type=click.IntRange(8192, 1_048_576),
    default=32_768,
    show_default=True,
    help="Limit for the headers of a request or an answer. Each request under way has one or two buffers of this size.",
)
@click.option(
    "--header-count",
    type=click.IntRange(64, 32_767),
    default=256,
    show_default=True,
    help="Limit for the number of headers of a request or an answer.",
)
@click.option("--directory", type=click.Path(path_type=Path), help="HAProxy's files.  [default: $TMPDIR/vrata-ingress]")
@click.pass_context
def command(
    context: click.Context,
    /,
    kubeconfig: Path | None,
    publish_service: str | None,
    lease: str | None,
    http_port: int,
    https_port: int,
    health_port: int,
    operations_port: int | None,
    proxies: tuple[str, ...],
    forwarded: tuple[str, ...],
    drain_s: int,
    spare_backends: int,
    tcp_services: str | None,
    udp_services: str | None,
    replica: str | None,
    replicas_port: int,
    host_metrics: int,
    access_log: str | None,
    header_bytes: int,
    header_count: int,
    directory: Path | None,
    *,
    image: str | None,
    manifest: bool,
    ssl_passthrough: bool,
    shared_hosts: bool,
    proxy_protocol: bool,
) -> None:
    """Run the Ingress controller."""
    if context.invoked_subcommand:
        return
    if manifest:
        click.echo(manifests.manifest("ingress", image), nl=False)
        return
    if not publish_service:
        raise InvalidInput("--publish-service", publish_service, "name the Service in front of it: NAMESPACE/NAME")
    replica = replica or ""
    if proxies and not proxy_protocol:
        raise InvalidInput("--proxy-protocol-from", proxies[0], "leave out --no-proxy-protocol beside it")
    lease_namespace, _, lease_name = (lease or "").partition("/")
    from vrata.ingress.controller import Controller
    from vrata.ingress.model import Settings
    from vrata.ingress.statuses import StatusWriter
    from vrata.kube.lease import Leadership, Times

    connection = config.load(kubeconfig)
    settings = Settings(
        http_port=http_port,
        https_port=https_port,
        health_port=health_port,
        accept_proxy=proxy_protocol,
        proxies=proxies,
        drain_s=drain_s,
        spare_slots=spare_backends,
        tcp_services=tcp_services or "",
        udp_services=udp_services or "",
        replica=replica,
        replicas_port=replicas_port,
        host_metrics=host_metrics,
        access_log=access_log or "",
        header_bytes=header_bytes,
        header_count=header_count,
        ssl_passthrough=ssl_passthrough,
        shared_hosts=shared_hosts,
        forbidden=tuple({*([replica] if replica else []), *_api_server(connection.server)}),
        forwarded=forwarded,
        resolver=Path("/etc/resolv.conf").exists(),
    )
    folder = directory or Path(tempfile.gettempdir()) / "vrata-ingress"

    async def serve() -> None:
        async with Kube(connection) as kube, AsyncExitStack() as stack:
            identity = f"{socket.gethostname()}_{secrets.token_hex(8)}"
            leadership = (
                Leadership(kube, lease_namespace, lease_name, identity, Times(LEASE_DURATION_S)) if lease else None
            )
            controller = Controller(kube, settings, folder, StatusWriter(kube, publish_service, leadership))
            if operations_port is not None:
                figures = controller.metrics.registry
                told = telling("ingress", operations_port, figures, controller.lacks, controller.count_hosts)
                await stack.enter_async_context(told)
            await controller.run()

    run_until_signalled(serve)


def _api_server(url: str) -> set[str]:
    """The addresses that its name has now; those of its Service and its own are read from the cluster."""
    try:
        found = socket.getaddrinfo(urlsplit(url).hostname, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {str(ipaddress.ip_address(str(address[0]).partition("%")[0])) for *_, address in found}


command.add_command(ingress_explain.command, "explain")
command.add_command(ingress_check.command, "check")
command.add_command(ingress_webhook.command, "webhook")
