"""Runs a vrata command that kills itself right before the nth thing it would do to the world; nothing of it is in vrata.

`python -m tests.support.mortal FILE host …`: FILE holds `LABEL N`; another content arms anew. What counts is what
Python's audit events (sys.audit) and two methods tell: programs started, files written, renamed and removed, signals
sent, commands to HAProxy. Before n is also after n - 1, so counting n up from 1 until the work is done without a death
visits every instant at which an interruption can leave something different behind. The last line of FILE.log names
what was not done any more.
"""

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
        self._path = path
        self._armed = self._read()  # whoever is started again lives on with the same file
        self._left = 0

    def effect(self, what: str) -> None:
        """One thing is about to be done."""
        now = self._read()
        if now != self._armed:
            self._armed, self._left = now, int(now.split()[1])
        if self._left:
            self._left -= 1
            if not self._left:
                self._path.with_suffix(".log").write_text(f"{now}: {what}\n")
                os.kill(os.getpid(), signal.SIGKILL)

    def _read(self) -> str:
        try:
            return self._path.read_text()
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


def arm(death: Death) -> None:
    """Have every effect of this process counted."""
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


if __name__ == "__main__":
    from vrata.cli.main import main

    arm(Death(Path(sys.argv.pop(1))))
    main()
