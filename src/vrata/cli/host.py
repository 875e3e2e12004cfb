"""`vrata host`: reads settings, wires the agent together, ends cleanly on SIGTERM and leaves all instances running."""

import asyncio
import contextlib
import ipaddress
import os
import re
import resource
import signal
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

import click

from vrata.base.errors import InvalidInput, VrataError
from vrata.cli import types
from vrata.host.credentials import Certificates, SharedSecret
from vrata.host.model import Settings

DIRECTORY = click.Path(file_okay=False, path_type=Path)
_DIRECTORY = re.compile(r"/[A-Za-z0-9_./@+-]{1,60}")  # 36 more make a socket path, and HAProxy takes 97


@click.group(
    invoke_without_command=True,
    epilog="Example: vrata host --name host-1 --cloud-url https://192.0.2.10:8781 --certificates /etc/vrata/host "
    "--bridge provider=br-provider --state-dir /var/lib/vrata/host",
)
@click.option("--name", type=types.NAME, help="Name of this host, as the cloud knows it.")
@click.option(
    "--cloud-url",
    "urls",
    type=types.URL,
    multiple=True,
    help="Where the cloud listens for hosts, e.g. https://192.0.2.10:8781; repeatable, for each of its replicas.",
)
@click.option("--certificates", type=DIRECTORY, help="Directory that `vrata host join` has filled.")
@click.option(
    "--secret-file", type=click.Path(path_type=Path), help="File with the secret that all hosts share instead."
)
@click.option(
    "--bridge",
    "bridges",
    type=types.BRIDGE,
    multiple=True,
    metavar="NETWORK=BRIDGE",
    help="Bridge of a physical network; repeatable.",
)
@click.option("--state-dir", type=click.Path(path_type=Path), help="Where the agent keeps its files.")
@click.option("--insecure", is_flag=True, help="Send the secret over plain HTTP beyond loopback.")
@click.pass_context
def command(
    context: click.Context,
    *,
    name: str | None,
    urls: tuple[str, ...],
    certificates: Path | None,
    secret_file: Path | None,
    bridges: tuple[str, ...],
    state_dir: Path | None,
    insecure: bool,
) -> None:
    """Run the agent of one host, which runs the instances that the cloud assigns to it.

    Start it in the host's own network namespace (with nsenter, which keeps /run/netns in sight). Ending it leaves
    every instance serving; the next start adopts them.
    """
    if context.invoked_subcommand:
        return
    from vrata.base import log

    if os.geteuid() != 0:
        raise VrataError("the host agent builds namespaces and needs root", remedy="run it as root, e.g. with sudo")
    if name is None or state_dir is None or not urls:
        missing = "--name" if name is None else "--cloud-url" if not urls else "--state-dir"
        raise click.UsageError(f"Missing option '{missing}'.", context)
    directory = str(state_dir.absolute())
    if not _DIRECTORY.fullmatch(directory):
        raise InvalidInput("--state-dir", directory, "use a plain path of at most 60 characters")
    pairs = [(network, link) for network, _, link in (bridge.partition("=") for bridge in bridges)]
    credentials = _credentials(name, urls, certificates, secret_file, insecure=insecure)
    log.configure()
    settings = Settings(name, directory, tuple(pairs), open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    asyncio.run(_serve(settings, urls, credentials))


def _credentials(
    name: str, urls: tuple[str, ...], certificates: Path | None, secret_file: Path | None, *, insecure: bool
) -> Certificates | SharedSecret:
    if (certificates is None) == (secret_file is None):
        raise VrataError(
            "how does this host prove who it is?", remedy="give --certificates, or --secret-file for tests"
        )
    plain = next((url for url in urls if _is_plain(url)), None)
    if plain and (certificates is not None or not insecure):
        remedy = "give an https:// address" if certificates else "give an https:// address, or --insecure"
        raise VrataError(
            f"--cloud-url {plain}: what this host runs, and keys, would cross the network in plain HTTP", remedy=remedy
        )
    if certificates is not None:
        return Certificates(certificates, name)
    assert secret_file is not None
    try:
        secret = secret_file.read_text().split()
    except OSError as error:
        raise VrataError(f"--secret-file {secret_file}: {error.strerror}") from error
    if not secret:
        raise VrataError(f"--secret-file {secret_file} is empty", remedy="copy it from the cloud")
    return SharedSecret(secret[0])


def _is_plain(url: str) -> bool:
    """Whether everybody between here and there can read along."""
    parts = urlsplit(url)
    with contextlib.suppress(ValueError):
        return parts.scheme == "http" and not ipaddress.ip_address(parts.hostname or "").is_loopback
    return parts.scheme == "http" and parts.hostname != "localhost"


@command.command(
    "join", epilog="Example: vrata host join --name host-1 --cloud-url https://192.0.2.10:8781 --token-file token"
)
@click.option("--name", type=types.NAME, required=True, help="The name that the token was made for.")
@click.option("--cloud-url", type=types.URL, required=True, help="Where the cloud listens for hosts.")
@click.option(
    "--token-file",
    type=click.File(),
    required=True,
    help="File with a token of `vrata cloud host-token`; - for standard input.",
)
@click.option(
    "--certificates", type=DIRECTORY, default=Path("/etc/vrata/host"), show_default=True, help="Directory to fill."
)
def join(*, name: str, cloud_url: str, token_file: TextIO, certificates: Path) -> None:
    """Get this machine a certificate, with which it may be a host of the cloud."""
    from vrata.base.wire import read_token
    from vrata.host.join import join as ask

    if not cloud_url.startswith("https:"):
        raise InvalidInput("--cloud-url", cloud_url, "give the https:// address of --agent-listen")
    try:
        token = read_token(token_file.read(4096))
    except ValueError as error:
        raise VrataError(f"--token-file: {error}", remedy="make one on a machine of the cloud") from error
    asyncio.run(ask(cloud_url, name, token.secret, token.authority, certificates))
    click.echo(f"{name} has joined; its certificate is in {certificates}")


async def _serve(settings: Settings, urls: tuple[str, ...], credentials: Certificates | SharedSecret) -> None:
    from vrata.base.manager import supervised
    from vrata.host.api import CloudClient
    from vrata.host.controller import HostAgent
    from vrata.host.store import HostStore

    async with CloudClient(urls, settings.name, credentials) as cloud:
        agent = asyncio.ensure_future(HostAgent(settings, HostStore(Path(settings.state_dir)), cloud).run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, agent.cancel)
        async with supervised():
            with contextlib.suppress(asyncio.CancelledError):
                await agent
