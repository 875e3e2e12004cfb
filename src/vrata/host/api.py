"""The agent's half of the conversation with the cloud (`vrata.base.wire`), over HTTP."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import msgspec
import structlog

from vrata.base.clock import monotonic_s
from vrata.base.errors import VrataError
from vrata.base.wire import DesiredSet, HostReport
from vrata.host.credentials import Certificates, SharedSecret

POLL_WAIT_S = 25
_POLL_TIMEOUT_S = POLL_WAIT_S + 5
_REPORT_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 3.0
_LOOK_S = 3600.0  # clocks are set, and machines sleep: a certificate's end is looked at so often
_RETRY_S = 60.0

log = structlog.get_logger()


class CloudClient:
    """One cloud as one host sees it; use as a context manager. Of several addresses, the next one is tried after a failure."""

    def __init__(self, urls: Sequence[str], host: str, credentials: Certificates | SharedSecret) -> None:
        self._bases = [f"{url.rstrip('/')}/agent/v1/hosts/{host}" for url in urls]
        self._credentials = credentials
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "CloudClient":
        self._session = aiohttp.ClientSession(headers=self._credentials.headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session
        await self._session.close()

    async def renew(self) -> None:
        """Ask for a new certificate in time, for as long as the agent runs; with a shared secret, there is none."""
        credentials = self._credentials
        if isinstance(credentials, SharedSecret):
            return
        while True:
            await asyncio.sleep(min(max(0.0, credentials.due_s()), _LOOK_S))
            if credentials.due_s() > 0:
                continue
            try:
                _, certificate = await self._send("POST", "certificate", _REPORT_TIMEOUT_S, body=credentials.request())
                credentials.renewed(certificate)
                log.info("certificate renewed")
            except VrataError as error:
                log.warning("certificate not renewed", error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def poll_desired(self, since: int, database: str = "") -> DesiredSet | None:
        """The desired set once it is another than this one; None if nothing came in time. VrataError if unreachable."""
        parameters = {"since": str(since), "database": database, "wait_s": str(POLL_WAIT_S)}
        status, body = await self._send("GET", "desired", _POLL_TIMEOUT_S, parameters=parameters)
        if status == 204:
            return None
        try:
            return msgspec.json.decode(body, type=DesiredSet)
        except msgspec.MsgspecError as error:
            raise VrataError(f"{self._bases[0]}: what the cloud sends is no desired set ({error})") from error

    async def send_report(self, report: HostReport) -> None:
        """Tell the cloud what this host sees."""
        parameters = {"boot": self._boot, "number": str(int(monotonic_s() * 1e9))}
        body = msgspec.json.encode(report)
        await self._send("PUT", "report", _REPORT_TIMEOUT_S, parameters=parameters, body=body)

    async def _send(
        self, method: str, path: str, timeout_s: float, *, parameters: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, bytes]:
        assert self._session
        timeout = aiohttp.ClientTimeout(total=timeout_s, connect=_CONNECT_TIMEOUT_S)
        headers = {"Content-Type": "application/json"} if body else {}
        base, tls = self._bases[0], self._credentials.tls
        try:
            async with self._session.request(
                method, f"{base}/{path}", params=parameters, data=body or None, headers=headers, timeout=timeout,
                ssl=True if tls is None else tls,
            ) as answer:  # fmt: skip
                content = await answer.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            if self._bases[0] == base:  # of several requests under way, the first one that fails
                self._bases.append(self._bases.pop(0))
            raise VrataError(f"{base}: the cloud does not answer ({error or 'time-out'})") from error
        text = content[:200].decode(errors="replace").strip()
        if answer.status in (401, 403):
            raise VrataError(f"{base}: the cloud refuses this host ({text})", remedy=self._credentials.refused())
        if answer.status not in (200, 204):
            raise VrataError(f"{base}/{path}: the cloud answers {answer.status} {text}")
        return answer.status, content
