"""A backend for long downloads: answers with a byte every 20 ms, for 6 s. `python -m bench.trickle PORT`."""

import asyncio
import contextlib
import sys

INTERVAL_S, LENGTH_BYTES = 0.02, 300


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, EOFError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LENGTH_BYTES)
        for _ in range(LENGTH_BYTES):
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(INTERVAL_S)
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "0.0.0.0", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
