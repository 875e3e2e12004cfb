"""Talks to a running HAProxy through its runtime socket: commands, servers, map transactions, statistics.

HAProxy management guide 2.6, section 9.3. One connection a command. Never decides what to change. Payloads are kept
below the 16 kB that HAProxy 2.6 takes (`tune.bufsize`): it drops a bigger one in silence, with an empty answer.
"""

import asyncio
import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from vrata.base.errors import VrataError

TIMEOUT_S = 5.0
PAYLOAD_BYTES = 14_000
_RETRY_S = 0.01
# An added server has zeros for defaults: without these each request would get a connection of its own.
_KEEPS_CONNECTIONS = "pool-max-conn -1 pool-purge-delay 5s"
_LOCKED = "perations on certificates are currently locked!"
_TRANSACTION = re.compile(r"ransaction (?:created for \S+ |updated for \S+ |is about ')(\S+?)['!]")
_ROW = re.compile(r"[^\s\0]+ [^\n\r\0]*")
_LIMIT = 64 * 1024 * 1024


class RuntimeFailed(VrataError):
    """HAProxy refused a command, or would have; the message holds the command and its answer."""


class RuntimeClient:
    """One runtime (or master) socket."""

    def __init__(self, socket_path: Path, timeout_s: float = TIMEOUT_S) -> None:
        self.path = socket_path
        self._timeout_s = timeout_s

    async def ask(self, command: str) -> str:
        """Send one command line (`;` separates several) and return the answer, whatever it says.

        One about certificates is sent again while somebody else's, be it only `show ssl cert`, locks this one out. VrataError
        if nobody listens or no answer comes in time.
        """
        if len(command.encode()) > PAYLOAD_BYTES + 1024:
            raise RuntimeFailed(f"HAProxy 2.6 would not take a command of {len(command)} characters", retriable=False)
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._exchange(command)
                # Answers about anything else may have such words in them because a user wrote them.
                while command.split(" ", 2)[1:2] == ["ssl"] and _LOCKED in answer:
                    await asyncio.sleep(_RETRY_S)
                    answer = await self._exchange(command)
                return answer
        except TimeoutError as error:
            said = "gave no answer, or kept its certificates locked, for"
            raise VrataError(f"{self.path}: HAProxy {said} {self._timeout_s} s") from error
        except OSError as error:
            raise VrataError(f"{self.path}: HAProxy does not answer ({error.strerror or error})") from error

    async def _exchange(self, command: str) -> str:
        reader, writer = await asyncio.open_unix_connection(self.path, limit=_LIMIT)
        try:
            writer.write(command.encode() + b"\n")
            # Without the half-close the master keeps the connection open after its answer.
            writer.write_eof()
            return (await reader.read()).decode(errors="replace").strip("\n")
        finally:
            writer.close()

    async def tell(self, command: str, *expected: str) -> str:
        """Send a command whose answer must be empty or begin with one of `expected`; RuntimeFailed otherwise."""
        answer = await self.ask(command)
        if not answer.strip() or answer.lstrip().startswith(expected or ("\0",)):
            return answer
        raise RuntimeFailed(f"HAProxy refused `{command.splitlines()[0]}`: {answer.strip()}")

    async def wait_ready(self, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until the process answers; VrataError after the time."""
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    await self.ask("show version")
                except VrataError:
                    await asyncio.sleep(_RETRY_S)
                else:
                    return

    async def add_backend(self, backend: str, defaults: str) -> None:
        """Add a backend that is nothing but a `defaults` section, from HAProxy 3.4 on; one that is there already is fine.

        One line, so that whoever sends it can not end between the two: what is not published gets no requests.
        """
        command = f"add backend {backend} from {defaults};publish backend {backend}"
        answer = await self.ask(command)
        if "Backend published" not in answer:
            raise RuntimeFailed(f"HAProxy refused `{command}`: {answer.strip()}")

    async def add_server(self, backend: str, server: str, endpoint: str, options: Sequence[str]) -> None:
        """Add a server and put it into service, its health check included."""
        words = " ".join((endpoint, *options, _KEEPS_CONNECTIONS))
        await self.tell(f"add server {backend}/{server} {words}", "New server registered", "[WARNING]")
        if "check" in options:
            await self.tell(f"enable health {backend}/{server}")
        if "agent-check" in options:
            await self.tell(f"enable agent {backend}/{server}")
        await self.tell(f"enable server {backend}/{server}")

    async def replace_file(self, kind: str, path: str, content: str) -> None:
        """Give a loaded certificate (`cert`), authority (`ca-file`) or revocation list (`crl-file`) a new content.

        One transaction: RuntimeFailed leaves the old content in use. `content` may hold no empty line.
        """
        command = f"set ssl {kind} {path} <<\n{content.strip()}\n"
        answer = await self.ask(command)
        found = _TRANSACTION.search(answer)
        if found and found[1] != path:
            # Somebody was killed before the commit; HAProxy has one transaction at a time, and 2.6 takes this for a part of it.
            await self.ask(f"abort ssl {kind} {found[1]}")
            answer = await self.ask(command)
            found = _TRANSACTION.search(answer)
        if not found or found[1] != path:
            raise RuntimeFailed(f"HAProxy refused `set ssl {kind} {path}`: {answer.strip()}")
        answer = await self.ask(f"commit ssl {kind} {path}")
        if "Success!" not in answer:
            await self.ask(f"abort ssl {kind} {path}")
            raise RuntimeFailed(f"HAProxy refused `commit ssl {kind} {path}`: {answer.strip()}")

    async def add_certificate(self, path: str, pem: str) -> None:
        """Load a certificate under the name of a file, or another content if it has that one; nobody is served it yet."""
        await self.tell(f"new ssl cert {path}", "New empty certificate", f"Certificate '{path}' already exists")
        await self.replace_file("cert", path, pem)

    async def add_authority(self, path: str, pem: str) -> None:
        """Load authorities under the name of a file, or others if it has some; nobody is asked for them yet."""
        await self.tell(f"new ssl ca-file {path}", "New CA file created", f"CA file '{path}' already exists")
        await self.replace_file("ca-file", path, pem)

    async def remove_file(self, kind: str, path: str) -> bool:
        """Forget a certificate (`cert`) or authority (`ca-file`); False if something still has it. Not there is fine."""
        answer = await self.ask(f"del ssl {kind} {path}")
        if "in use" in answer:
            return False
        if "deleted" not in answer and "doesn't exist" not in answer:
            raise RuntimeFailed(f"HAProxy refused `del ssl {kind} {path}`: {answer.strip()}")
        return True

    async def list_certificate(self, list_path: str, line: str) -> None:
        """Serve a loaded certificate from now on; `line` as in the file of a crt-list."""
        answer = await self.ask(f"add ssl crt-list {list_path} <<\n{line}\n")
        if "Success!" not in answer:
            raise RuntimeFailed(f"HAProxy refused `add ssl crt-list {list_path}`: {answer.strip()}")

    async def remove_certificate(self, list_path: str, path: str) -> None:
        """Serve it no longer, and forget it; one that is not there is fine."""
        await self.tell(f"del ssl crt-list {list_path} {path}", "Entry", "Can't delete the crt-list: certificate")
        await self.tell(f"del ssl cert {path}", "Certificate")

    async def remove_server(self, backend: str, server: str) -> bool:
        """Take a server out of service and delete it; False if connections still hold it (it gets no new ones)."""
        await self.tell(f"disable server {backend}/{server}", "No such server")
        answer = await self.ask(f"del server {backend}/{server}")
        if "Server deleted" in answer or "No such server" in answer:
            return True
        if "connections" in answer or "sessions" in answer:
            return False
        raise RuntimeFailed(f"HAProxy refused to delete {backend}/{server}: {answer.strip()}")

    async def set_weight(self, backend: str, server: str, weight: int) -> None:
        """Give a server another weight; 0 drains it."""
        await self.tell(f"set weight {backend}/{server} {weight}")

    async def set_server_state(self, backend: str, server: str, state: str) -> None:
        """`ready`, `drain` or `maint`."""
        await self.tell(f"set server {backend}/{server} state {state}")

    async def set_server_address(self, backend: str, server: str, address: str, port: int) -> None:
        """Point an existing server (a slot) somewhere else."""
        await self.tell(
            f"set server {backend}/{server} addr {address} port {port}", "IP changed", "port changed", "no need"
        )

    async def replace_map(self, name: str, rows: Iterable[tuple[str, str]]) -> None:
        """Replace a map file's live content in one atomic step; a failure before the commit changes nothing.

        Keys may hold no white space, values no line breaks: VrataError.
        """
        answer = await self.tell(f"prepare map {name}", "New version created:")
        version = answer.rsplit(":", 1)[1].strip()
        await self.add_rows(f"@{version} {name}", rows)
        await self.tell(f"commit map @{version} {name}")

    async def add_rows(self, name: str, rows: Iterable[tuple[str, str]]) -> None:
        """Add rows to a live map, or to a prepared version of it (`@3 name`), whether or not it has such keys."""
        chunk: list[str] = []
        size = 0
        for key, value in rows:
            row = f"{key} {value}"
            if not _ROW.fullmatch(row):
                raise RuntimeFailed(f"map row {row!r} cannot be sent", retriable=False)
            length = len(row.encode()) + 1
            if length > PAYLOAD_BYTES:
                raise RuntimeFailed(f"map row of {length} bytes is too long", retriable=False)
            if size + length > PAYLOAD_BYTES:
                await self._add_chunk(name, chunk)
                chunk, size = [], 0
            chunk.append(row)
            size += length
        if chunk:
            await self._add_chunk(name, chunk)

    async def set_row(self, name: str, key: str, value: str) -> None:
        """Give a key of a live map another value, in one step."""
        await self.tell(f"set map {name} {_word(key)} {_word(value)}")

    async def put_row(self, name: str, key: str, value: str, *, new: bool) -> None:
        """Give a key of a live map a value, whether it has it already (then in one step) or not."""
        if new:
            await self.add_rows(name, [(key, value)])
        else:
            await self.set_row(name, key, value)

    async def delete_row(self, name: str, key: str) -> None:
        """Remove a key from a live map."""
        await self.tell(f"del map {name} {_word(key)}", "Key not found")

    async def _add_chunk(self, name: str, rows: Sequence[str]) -> None:
        await self.tell(f"add map {name} <<\n" + "\n".join(rows) + "\n")

    async def statistics(self) -> tuple[dict[str, str], ...]:
        """`show stat` as one dictionary a line, by the column names of section 9.1."""
        return parse_statistics(await self.ask("show stat"))

    async def information(self) -> dict[str, str]:
        """`show info` as a dictionary."""
        pairs = (line.partition(": ") for line in (await self.ask("show info")).splitlines())
        return {key: value for key, _, value in pairs if key}

    async def servers(self) -> frozenset[tuple[str, str]]:
        """(backend, server) of every server that exists now, from `show servers state` (added ones included)."""
        lines = (await self.ask("show servers state")).splitlines()
        rows = (line.split() for line in lines if line and not line.startswith("#"))
        return frozenset((row[1], row[3]) for row in rows if len(row) > 4)


def _word(text: str) -> str:
    """One argument of a command: a semicolon would end it."""
    return text.replace("\\", "\\\\").replace(";", "\\;")


def parse_statistics(text: str) -> tuple[dict[str, str], ...]:
    """Rows of `show stat`; empty for text that is none."""
    if not text.startswith("# "):
        return ()
    return tuple(csv.DictReader(text[2:].splitlines()))
