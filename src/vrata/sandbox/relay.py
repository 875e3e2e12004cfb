"""Carries TCP from inside the sandbox to an API server outside: listens in a machine's namespace, connects from ours."""

import asyncio
import socket

from vrata.base.errors import VrataError
from vrata.net.netns import in_namespace

CHUNK = 65536


def listen_inside(netns: str, address: str, port: int) -> socket.socket:
    """A listening socket that belongs to a namespace: it stays where it was made (network_namespaces(7))."""
    try:
        return in_namespace(netns, lambda: socket.create_server((address, port), backlog=512))
    except OSError as error:
        raise VrataError(f"cannot listen on {address}:{port} in {netns}: {error}") from error


async def relay(listening: socket.socket, host: str, port: int) -> None:
    """Copy bytes both ways between each accepted connection and `host:port`, until cancelled."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(reader, upstream_writer))
            group.create_task(_copy(upstream_reader, writer))

    server = await asyncio.start_server(serve, sock=listening)
    await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
