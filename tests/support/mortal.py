"""A vrata command that kills itself right before the nth thing it would do to the world, and is started again at once.

`python -m tests.support.mortal FILE host …`: FILE holds `LABEL N`; another content arms anew. What counts is what
Python's audit events (sys.audit) and two methods tell: programs started, files written, renamed and removed, signals
sent, commands to HAProxy. Before n is also after n - 1, so counting n up from 1 until the work is done without a death
visits every instant at which an interruption can leave something different behind. FILE.died says which content was
died of, and what was not done any more. Nothing of this is in vrata; a fork starts faster than a new Python.
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_READERS = (("ip", "-json"), ("nft", "-j"))
_FILES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.posix_spawn"})


class Death:
    """Counts effects against what FILE says."""

    def __init__(self, path: Path) -> None:
        self._path, self._log = path, path.with_suffix(".died")
        self._armed = _read(self._log).partition(":")[0]  # nobody dies twice of the same
        self._left = 0

    def effect(self, what: str) -> None:
        """One thing is about to be done."""
        now = _read(self._path)
        if now and now != self._armed:
            self._armed, self._left = now, int(now.split()[1])
        if self._left:
            self._left -= 1
            if not self._left:
                self._log.write_text(f"{now}: {what}\n")
                os.kill(os.getpid(), signal.SIGKILL)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def effect_of(event: str, args: tuple[Any, ...]) -> str:
    """What an audit event does to the world; empty if nothing that anybody could find."""
    if event in _FILES:
        return f"{event} {args[0]}"
    if event == "open" and isinstance(args[0], str | Path) and (args[2] or 0) & _WRITES and args[0] != os.devnull:
        return f"write {args[0]}"
    if event == "subprocess.Popen":
        argv = tuple(str(one) for one in args[1])
        tool = argv[argv.index("--") + 1 :] if "--" in argv[:3] else argv
        return "" if tool[:2] in _READERS else f"run {' '.join(tool)}"
    return ""


def count_effects(death: Death) -> None:
    """Have every effect of a host's agent, or of an Ingress controller, counted."""
    from vrata.haproxy.runtime import RuntimeClient
    from vrata.net import daemon

    busy = False

    def heard(event: str, args: tuple[Any, ...]) -> None:
        nonlocal busy
        what = "" if busy else effect_of(event, args)
        if what:
            busy = True  # what `effect` itself does is no effect
            death.effect(what)
            busy = False

    def counted(function: Callable[..., Any], told: Callable[..., str]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            what = told(*args)
            if what:
                death.effect(what)
            return function(*args)

        return call

    RuntimeClient.ask = counted(  # type: ignore[method-assign]
        RuntimeClient.ask, lambda _client, command: "" if command.startswith("show") else f"tell HAProxy {command}"
    )
    daemon.send = counted(daemon.send, lambda found, number: f"signal {number.name} to {found.pid}")
    sys.addaudithook(heard)


def count_commits(death: Death) -> None:
    """Have the moments before and after each commit of the cloud counted."""
    import sqlalchemy as sa

    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def _executes(connection: sa.Connection, _cursor: object, statement: str, *_: object) -> None:
        word = statement.lstrip().partition(" ")[0]
        if word in ("INSERT", "UPDATE", "DELETE"):
            connection.info["changes"] = f"{connection.info.get('changes', '')} {statement[:40]!r}"

    @sa.event.listens_for(sa.Engine, "commit")
    def _commits(connection: sa.Connection) -> None:
        if "changes" in connection.info:
            death.effect(f"before commit of{connection.info['changes']}")

    @sa.event.listens_for(sa.Pool, "checkin")
    def _returned(_connection: object, record: sa.pool.ConnectionPoolEntry) -> None:
        changes = record.info.pop("changes", None)
        if changes:
            death.effect(f"after commit of{changes}")


def supervise(path: Path, count: Callable[[Death], None], run: Callable[[], None]) -> None:
    """Run again and again what dies of SIGKILL; SIGTERM ends it and this."""
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        os.kill(child, signal.SIGTERM)

    status = int(signal.SIGKILL)
    while not stopped and status == signal.SIGKILL:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        child = os.fork()
        if not child:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            count(Death(path))
            run()
        signal.signal(signal.SIGTERM, stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


# What a command imports on its way to serving: once, before the fork, instead of in each child.
_IMPORTS = {
    "cloud": (
        "vrata.cli.cloud", "vrata.cloud.postgresql", "vrata.cloud.server", "vrata.cloud.service", "uvloop",
        "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql.psycopg",
    ),
    "ingress": ("vrata.cli.ingress", "vrata.ingress.controller", "vrata.ingress.statuses", "vrata.kube.lease"),
    "host": ("vrata.cli.host", "vrata.host.api", "vrata.host.controller"),
}  # fmt: skip

if __name__ == "__main__":
    from vrata.cli.main import main

    file, command = Path(sys.argv.pop(1)), sys.argv[1]
    for name in _IMPORTS[command]:
        importlib.import_module(name)
    supervise(file, count_commits if command == "cloud" else count_effects, main)
