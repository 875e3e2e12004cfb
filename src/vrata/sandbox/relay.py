"""Carries TCP from inside the sandbox to an API server outside: listens in a machine's namespace, connects from ours."""

import asyncio
import ctypes
import os
import socket
import threading

from vrata.base.errors import VrataError
from vrata.net.command import NETNS_DIR

CLONE_NEWNET = 0x40000000
CHUNK = 65536


def listen_inside(netns: str, address: str, port: int) -> socket.socket:
    """A listening socket that belongs to a namespace: a socket stays where it was made (network_namespaces(7)).

    Made in a thread of its own, which ends with the foreign namespace.
    """
    made: list[socket.socket | OSError] = []

    def enter_and_listen() -> None:
        try:
            with (NETNS_DIR / netns).open("rb") as handle:
                if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            made.append(socket.create_server((address, port), backlog=512))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=enter_and_listen)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise VrataError(f"cannot listen on {address}:{port} in {netns}: {made[0]}") from made[0]
    return made[0]


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
