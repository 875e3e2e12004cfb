"""Runs the process that carries UDP (`vrata.ingress.datagrams`) and tells it all ports and their pods."""

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping

import structlog

from vrata.base.clock import monotonic_s
from vrata.loop.restarts import Restarts
from vrata.net.daemon import describe_status

COALESCE_S = 0.003
STOP_S = 2.0

Carried = Mapping[int, list[tuple[str, int]]]  # pods by port

log = structlog.get_logger(__name__)


class Relay:
    """`carried` says what there is to carry whenever `changed` is set; `refused` hears which ports it can not have, and why."""

    def __init__(self, carried: Callable[[], Carried], refused: Callable[[Mapping[str, str]], None]) -> None:
        self.changed = asyncio.Event()
        self._carried = carried
        self._refused = refused
        self._process: Process | None = None

    async def run(self) -> None:
        """Work until cancelled; the process, if there is anything for it to do, goes on until `stop`."""
        restarts = Restarts()
        while True:
            await self.changed.wait()
            if not self._carried():
                self.changed.clear()
                continue
            restarts.started(monotonic_s())
            try:
                status = describe_status(await self._work())
            except OSError as error:
                status = str(error)
            pause_s = restarts.ended(monotonic_s())
            log.warning("UDP relay ended", status=status, again_in_s=pause_s)
            self.changed.set()
            await asyncio.sleep(pause_s)

    async def _work(self) -> int:
        argv = (sys.executable, "-m", "vrata.ingress.datagrams")
        process = self._process = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE)
        assert process.stdin
        assert process.stdout
        telling = asyncio.create_task(self._tell(process.stdin))
        try:
            async for line in process.stdout:
                self._refused(json.loads(line))
        finally:
            telling.cancel()
        return await process.wait()

    async def _tell(self, to: asyncio.StreamWriter) -> None:
        told = None
        with contextlib.suppress(ConnectionError):  # it has ended
            while True:
                await self.changed.wait()
                await asyncio.sleep(COALESCE_S)
                self.changed.clear()
                carried = self._carried()
                if carried != told:
                    to.write(json.dumps(carried).encode() + b"\n")
                    await to.drain()
                told = carried

    async def stop(self) -> None:
        """The process ends with its input."""
        if self._process is None or self._process.returncode is not None:
            return
        assert self._process.stdin
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_S)
        except TimeoutError:
            self._process.kill()
