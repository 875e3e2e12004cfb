"""Which cloud an administrator's command speaks to: a sandbox by its name, or an entry of clouds.yaml."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from vrata.provider.cloud import Cloud

POLL_S = 0.1


def cloud_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--name`, `--os-cloud` and `--clouds-file`."""
    for option in (
        click.option("--clouds-file", type=click.Path(path_type=Path), help="clouds.yaml; default: the usual places."),
        click.option("--os-cloud", envvar="OS_CLOUD", help="Entry of clouds.yaml, instead of a sandbox."),
        click.option("--name", default="default", show_default=True, help="The sandbox."),
    ):
        command = option(command)
    return command


def admin(name: str, os_cloud: str | None, clouds_file: Path | None) -> "Cloud":
    """A session as administrator."""
    from vrata.provider.cloud import Cloud
    from vrata.sandbox.lifecycle import Sandbox

    if os_cloud:
        return Cloud(os_cloud, clouds_file)
    return Cloud("vrata-admin", Sandbox.existing(name).paths.clouds)
