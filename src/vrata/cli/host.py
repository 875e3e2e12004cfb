"""`vrata host`: reads settings, wires the agent together, ends cleanly on SIGTERM and leaves all instances running."""

import asyncio
import contextlib
import os
import re
import resource
import signal
from pathlib import Path

import click

from vrata.base.errors import InvalidInput, VrataError
from vrata.cli import types
from vrata.host.model import Settings

_DIRECTORY = re.compile(r"/[A-Za-z0-9_./@+-]{1,60}")  # 36 more make a socket path, and HAProxy takes 97


@click.command()
@click.option("--name", type=types.NAME, required=True, help="Name of this host, as the cloud knows it.")
@click.option(
    "--cloud-url", type=types.URL, required=True, help="Where the cloud listens, e.g. http://172.31.0.2:8780."
)
@click.option("--secret-file", required=True, type=click.Path(path_type=Path), help="File with the hosts' secret.")
@click.option(
    "--bridge",
    "bridges",
    type=types.BRIDGE,
    multiple=True,
    metavar="NETWORK=BRIDGE",
    help="Bridge of a physical network.",
)
@click.option("--state-dir", required=True, type=click.Path(path_type=Path), help="Where the agent keeps its files.")
def command(name: str, cloud_url: str, secret_file: Path, bridges: tuple[str, ...], state_dir: Path) -> None:
    """Run the agent of one host, which runs the instances that the cloud assigns to it.

    Start it in the host's own network namespace (with nsenter, which keeps /run/netns in sight). Ending it leaves
    every instance serving; the next start adopts them.
    """
    from vrata.base import log

    if os.geteuid() != 0:
        raise VrataError("the host agent builds namespaces and needs root", remedy="run it as root, e.g. with sudo")
    directory = str(state_dir.absolute())
    if not _DIRECTORY.fullmatch(directory):
        raise InvalidInput("--state-dir", directory, "use a plain path of at most 60 characters")
    pairs = [(network, link) for network, _, link in (bridge.partition("=") for bridge in bridges)]
    try:
        secret = secret_file.read_text().strip()
    except OSError as error:
        raise VrataError(f"--secret-file {secret_file}: {error.strerror}") from error
    log.configure()
    settings = Settings(name, directory, tuple(pairs), open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    asyncio.run(_serve(settings, cloud_url, secret))


async def _serve(settings: Settings, cloud_url: str, secret: str) -> None:
    from vrata.host.api import CloudClient
    from vrata.host.controller import HostAgent
    from vrata.host.store import HostStore

    async with CloudClient(cloud_url, settings.name, secret) as cloud:
        agent = asyncio.ensure_future(HostAgent(settings, HostStore(Path(settings.state_dir)), cloud).run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, agent.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await agent
