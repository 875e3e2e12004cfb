"""Which cloud an administrator's command speaks to: a sandbox by its name, or an entry of clouds.yaml."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vrata.base.errors import VrataError
from vrata.cli import types

if TYPE_CHECKING:
    from vrata.provider.cloud import Cloud

POLL_S = 0.1


def cloud_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--name`, `--os-cloud` and `--clouds-file`."""
    for option in (
        click.option(
            "--clouds-file", type=click.Path(path_type=Path), help="clouds.yaml; default: as OpenStack clients."
        ),
        click.option(
            "--os-cloud", type=types.WORD, envvar="OS_CLOUD", help="Entry of clouds.yaml, instead of a sandbox."
        ),
        click.option("--name", type=types.SANDBOX, default="default", show_default=True, help="The sandbox."),
    ):
        command = option(command)
    return command


@contextlib.asynccontextmanager
async def admin(name: str, os_cloud: str | None, clouds_file: Path | None) -> "AsyncIterator[Cloud]":
    """A session as administrator; VrataError if the cloud can not be reached."""
    import aiohttp

    from vrata.provider.cloud import Cloud
    from vrata.sandbox.lifecycle import Sandbox

    session = Cloud(os_cloud, clouds_file) if os_cloud else Cloud("vrata-admin", Sandbox.existing(name).paths.clouds)
    try:
        async with session as cloud:
            yield cloud
    except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
        remedy = "see whether it runs" if os_cloud else "see `vrata status`; `vrata up` repairs it"
        raise VrataError(f"the cloud does not answer: {error or type(error).__name__}", remedy=remedy) from error
