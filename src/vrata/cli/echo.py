"""`vrata echo`: the echo server outside a pod, for trying things by hand."""

import asyncio

import click

from vrata.cli import types
from vrata.sandbox import echo


@click.command(epilog="Example: vrata echo --port 8080")
@click.option("--port", type=types.PORT, multiple=True, help="Plain HTTP port (repeatable; default 8080).")
@click.option("--tls-port", type=types.PORT, multiple=True, help="HTTPS port; reads TLS_CERT_FILE and TLS_KEY_FILE.")
@click.option("--udp-port", type=types.PORT, multiple=True, help="UDP port (repeatable).")
@click.option("--proxy-protocol", is_flag=True, help="Expect a PROXY header on every TCP connection.")
def command(
    port: tuple[int, ...], tls_port: tuple[int, ...], udp_port: tuple[int, ...], *, proxy_protocol: bool
) -> None:
    """Run the echo server that pods with the image vrata/echo run."""
    ports = list(port) or ([] if tls_port or udp_port else [8080])
    asyncio.run(echo.run(ports, list(tls_port), list(udp_port), proxy_protocol=proxy_protocol))
