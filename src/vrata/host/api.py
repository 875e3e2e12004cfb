"""The agent's half of the conversation with the cloud (`vrata.base.wire`), over HTTP."""

from pathlib import Path

import aiohttp
import msgspec

from vrata.base.clock import monotonic_s
from vrata.base.errors import VrataError
from vrata.base.wire import DesiredSet, HostReport

POLL_WAIT_S = 25
_POLL_TIMEOUT_S = POLL_WAIT_S + 5
_REPORT_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 3.0


class CloudClient:
    """One cloud as one host sees it; use as a context manager."""

    def __init__(self, url: str, host: str, secret: str) -> None:
        self._base = f"{url.rstrip('/')}/agent/v1/hosts/{host}"
        self._headers = {"Authorization": f"Bearer {secret}"}
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "CloudClient":
        self._session = aiohttp.ClientSession(headers=self._headers)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session
        await self._session.close()

    async def poll_desired(self, since: int, database: str = "") -> DesiredSet | None:
        """The desired set once it is another than this one; None if nothing came in time. VrataError if unreachable."""
        parameters = {"since": str(since), "database": database, "wait_s": str(POLL_WAIT_S)}
        status, body = await self._send("GET", "desired", _POLL_TIMEOUT_S, parameters=parameters)
        if status == 204:
            return None
        try:
            return msgspec.json.decode(body, type=DesiredSet)
        except msgspec.MsgspecError as error:
            raise VrataError(f"{self._base}: what the cloud sends is no desired set ({error})") from error

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
        try:
            async with self._session.request(
                method, f"{self._base}/{path}", params=parameters, data=body or None, headers=headers, timeout=timeout
            ) as answer:
                content = await answer.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise VrataError(f"{self._base}: the cloud does not answer ({error or 'time-out'})") from error
        if answer.status in (401, 403):
            raise VrataError(f"{self._base}: the cloud refuses this host's secret", remedy="compare --secret-file")
        if answer.status not in (200, 204):
            text = content[:200].decode(errors="replace")
            raise VrataError(f"{self._base}/{path}: the cloud answers {answer.status} {text}")
        return answer.status, content
