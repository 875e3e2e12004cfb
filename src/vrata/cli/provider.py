"""`vrata provider`: the cloud provider of one cluster."""

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Collection, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import click
import structlog

from vrata.base.errors import InvalidInput
from vrata.cli import provider_plan, provider_sweep, types
from vrata.cli.operations import telling
from vrata.cli.provider_options import Given, given, with_cloud_options
from vrata.cli.running import run_until_signalled
from vrata.kube import config, manifests
from vrata.kube.client import Kube
from vrata.kube.informer import Informer
from vrata.kube.metrics import watch_informers
from vrata.provider.conf import Conf
from vrata.provider.nodes.model import NodeSettings

DEFAULT = ("service", "node", "node-lifecycle")
CONTROLLERS = (*DEFAULT, "route")

Run = Callable[[], Coroutine[Any, Any, None]]

log = structlog.get_logger(__name__)


@click.group(
    invoke_without_command=True, epilog="Example: vrata provider --cloud-config cloud.conf --cluster-name production"
)
@with_cloud_options
@click.option(
    "--controllers",
    type=types.several(types.one_of(CONTROLLERS), f"use some of {', '.join(CONTROLLERS)}"),
    default=",".join(DEFAULT),
    show_default=True,
    metavar="LIST",
    help=f"Of {','.join(CONTROLLERS)}; with commas.",
)
@click.option(
    "--cluster-cidr",
    type=types.NETWORKS,
    metavar="LIST",
    help="The pods' networks, with commas; the controller `route` needs them.",
)
@click.option(
    "--lease", type=types.KEY, metavar="NAMESPACE/NAME", help="Of several replicas only the holder of this Lease works."
)
@click.option(
    "--lease-duration-s",
    type=click.IntRange(2, 86400),
    default=5,
    show_default=True,
    help="Seconds until the Lease of a stopped replica expires and another one takes over.",
)
@click.option("--manifest", is_flag=True, help="Print the manifest that installs two replicas, and end.")
@click.option("--image", type=types.IMAGE, metavar="NAME", help="Beside --manifest, required: the image of its pods.")
@click.option("--http-port", type=click.IntRange(0, 65535), help="Serve /healthz, /readyz and /metrics there.")
@click.pass_context
def command(
    context: click.Context,
    /,
    controllers: str,
    cluster_cidr: str | None,
    lease: str | None,
    lease_duration_s: int,
    http_port: int | None,
    *,
    manifest: bool,
    image: str | None,
    **options: Any,
) -> None:
    """Run the cloud provider: Services of type LoadBalancer get balancers and addresses."""
    if context.invoked_subcommand:
        return
    if manifest:
        click.echo(manifests.manifest("provider", image), nl=False)
        return
    chosen, clusters = frozenset(controllers.split(",")), tuple(cluster_cidr.split(",")) if cluster_cidr else ()
    namespace, _, name = (lease or "").partition("/")
    if lease and not name:
        raise InvalidInput("--lease", lease, "name it NAMESPACE/NAME")
    said = given(**options)
    if "route" in chosen and not (clusters and said.conf.networking.router_id):
        raise InvalidInput("--controllers", "route", "give --cluster-cidr, and router-id in [Route] of cloud.conf")
    held = (namespace, name, lease_duration_s) if lease else None
    run_until_signalled(lambda: _serve(said, chosen, clusters, held, http_port))


command.add_command(provider_plan.command, "plan")
command.add_command(provider_sweep.command, "sweep")


async def _serve(
    said: Given,
    chosen: frozenset[str],
    clusters: tuple[str, ...],
    lease: tuple[str, str, int] | None,
    http_port: int | None,
) -> None:
    from vrata.kube.lease import Leadership, Times
    from vrata.provider.cloud import REQUEST_TIMEOUT_S, Cloud
    from vrata.provider.metrics import Metrics

    for key in said.conf.ignored:
        log.info("not needed from cloud.conf", key=key)
    metrics = Metrics()
    timeout_s = said.conf.request_timeout_s or REQUEST_TIMEOUT_S
    async with AsyncExitStack() as stack:
        kube = await stack.enter_async_context(Kube(config.load(said.kubeconfig)))
        leadership = None
        if lease:
            namespace, name, duration_s = lease
            identity = f"{socket.gethostname()}_{secrets.token_hex(8)}"
            leadership = Leadership(kube, namespace, name, identity, Times(duration_s))
        guard = leadership.is_held if leadership else None
        cloud = await stack.enter_async_context(
            Cloud(login=said.login, timeout_s=timeout_s, metrics=metrics, guard=guard)
        )
        runs, missing = _controllers(kube, cloud, said, chosen, clusters)

        async def work() -> None:
            metrics.leads(working=True)
            async with asyncio.TaskGroup() as group:
                for run in runs:
                    group.create_task(run())

        if http_port is not None:

            def lacks() -> str:
                if leadership and not leadership.is_held():
                    return "" if leadership.looked else "waiting for the API server"
                return missing()

            await stack.enter_async_context(telling("provider", http_port, metrics.registry, lacks))
        await (leadership.run(work) if leadership else work())


def node_settings(conf: Conf, halves: Collection[str]) -> NodeSettings:
    """What cloud.conf says about nodes; `halves` of their controllers that run."""
    networking = conf.networking
    return NodeSettings(
        regional=os.environ.get("OS_CCM_REGIONAL", "").lower() == "true",
        ipv6=not networking.ipv6_support_disabled,
        public_networks=networking.public_network_names,
        internal_networks=networking.internal_network_names,
        sort_order=networking.address_sort_order,
        initialises="node" in halves,
        deletes="node-lifecycle" in halves,
    )


def _controllers(
    kube: Kube, cloud: Any, said: Given, chosen: frozenset[str], clusters: tuple[str, ...]
) -> tuple[list[Run], Callable[[], str]]:
    """What runs, and what it still lacks to be ready."""
    from vrata.provider.controller import Provider

    runs: list[Run] = []
    informers: list[Informer[Any]] = []
    lacks: list[Callable[[], str]] = []
    if "service" in chosen and said.conf.enabled:
        provider = Provider(kube, cloud, said.settings)
        runs.append(provider.run)
        lacks.append(provider.lacks)
        informers.extend(provider.informers)
        cloud.metrics.watch_queue(lambda: len(provider.queue))

    halves = {"node", "node-lifecycle"} & chosen
    if halves:
        from vrata.provider.nodes.controller import NodeController

        nodes = NodeController(kube, cloud, node_settings(said.conf, halves))
        runs.append(nodes.run)
        lacks.append(nodes.lacks)
        informers.append(nodes.nodes)
    if "route" in chosen:
        from vrata.provider.nodes.route_controller import RouteController

        routes = RouteController(kube, cloud, said.conf.networking.router_id, clusters)
        runs.append(routes.run)
        lacks.append(routes.lacks)
        informers.append(routes.nodes)

    if not runs:
        raise InvalidInput("[loadbalancer] enabled", "false", "enable it, or end this program: nothing is left to do")

    watch_informers(cloud.metrics.registry, lambda: informers)

    def missing() -> str:
        return "; ".join(said for said in (one() for one in lacks) if said)

    return runs, missing
