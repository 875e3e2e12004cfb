"""The options that `vrata provider` and its subcommands share, and what they come to together with a cloud.conf."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from vrata.base.errors import InvalidInput
from vrata.cli import types
from vrata.provider.conf import Conf, parse_conf
from vrata.provider.error_policy import POLICIES
from vrata.provider.login import Login
from vrata.provider.model import Settings
from vrata.provider.session import login_by_name

CLUSTER_NAME_MAX = 64
_FILE = click.Path(dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option("--kubeconfig", type=_FILE, help="Default: $KUBECONFIG, the pod's service account."),
    click.option("--cloud-config", type=_FILE, help="cloud.conf of the OpenStack cloud controller, read as it is."),
    click.option(
        "--os-cloud",
        type=types.WORD,
        envvar="OS_CLOUD",
        help="Entry of clouds.yaml. Goes before --cloud-config; the variable OS_CLOUD does not.",
    ),
    click.option("--clouds-file", type=_FILE, help="clouds.yaml to read; default: as OpenStack clients."),
    click.option(
        "--cluster-name", type=types.WORD, default="kubernetes", show_default=True, help="Part of every name in the cloud."
    ),
    click.option("--subnet-id", type=types.UUID, help="Subnet of the VIPs; default: the nodes' own."),
    click.option("--floating-network-id", type=types.UUID, help="Network of floating IPs; default: the first external one."),
    click.option("--internal", is_flag=True, help="No Service gets a floating IP, whatever it says."),
    click.option("--monitor/--no-monitor", default=None, help="Health monitors on every pool."),
    click.option(
        "--restrict-annotations",
        is_flag=True,
        help="Refuse annotations that reach beyond their namespace, unless it has the label"
        " vrata.dev/allow-annotations=true: load-balancer-id, port-id and TLS references.",
    ),
    click.option("--on-error", type=click.Choice(POLICIES), help="What to do about a load balancer in ERROR; default: failover."),
)  # fmt: skip


@dataclass(frozen=True)
class Given:
    """What the options say. An option stands above cloud.conf, which stands above our defaults."""

    kubeconfig: Path | None
    conf: Conf

    @property
    def settings(self) -> Settings:
        return self.conf.settings

    @property
    def login(self) -> Login:
        return self.conf.login


def with_cloud_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the shared options to a click command; `given` makes their values one."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def given(
    *,
    kubeconfig: Path | None,
    cloud_config: Path | None,
    os_cloud: str | None,
    clouds_file: Path | None,
    cluster_name: str,
    subnet_id: str | None,
    floating_network_id: str | None,
    internal: bool,
    monitor: bool | None,
    on_error: str | None,
    restrict_annotations: bool,
) -> Given:
    """Read the files that the options name; InvalidInput for what can not be."""
    if cloud_config and _is_from_environment("os_cloud"):
        os_cloud = None  # somebody's shell must not decide which cloud a cluster is served from
    if not 1 <= len(cluster_name) <= CLUSTER_NAME_MAX:
        remedy = f"use 1 to {CLUSTER_NAME_MAX} characters: names in the cloud that begin with it end at 255"
        raise InvalidInput("--cluster-name", cluster_name, remedy)
    login = login_by_name(os_cloud, clouds_file)
    conf = Conf(settings=Settings(cluster=cluster_name), login=login)
    if cloud_config:
        conf = parse_conf(_text_of(cloud_config), cluster_name)
        conf = replace(conf, login=login) if os_cloud or clouds_file else conf
    said: dict[str, Any] = {"subnet_id": subnet_id, "floating_network_id": floating_network_id, "monitor": monitor}
    said |= {"on_error": on_error}
    said |= {"internal": True} if internal else {}
    said |= {"restrict_annotations": True} if restrict_annotations else {}
    said = {name: value for name, value in said.items() if value is not None}
    return Given(kubeconfig, replace(conf, settings=replace(conf.settings, **said)))


def _is_from_environment(option: str) -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(option) is ParameterSource.ENVIRONMENT


def _text_of(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("--cloud-config", str(path), f"name a text file that can be read ({error})") from error
