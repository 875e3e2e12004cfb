"""pods/log: passes a container's log on from its kubelet, in plain HTTP as the sandbox's nodes serve it."""

from collections.abc import AsyncIterator
from typing import Any

from vrata.sandbox.apiserver import errors
from vrata.sandbox.apiserver.errors import ApiError, Obj
from vrata.sandbox.apiserver.store import Store

CONNECT_S = 5.0
_PASSED = ("follow", "previous", "timestamps", "tailLines", "sinceSeconds", "sinceTime", "limitBytes")


def _container(pod: Obj, wanted: str) -> str:
    spec, name = pod["spec"], pod["metadata"]["name"]
    names: list[str] = [c["name"] for group in ("containers", "initContainers") for c in spec.get(group) or []]
    if wanted:
        if wanted not in names:
            raise errors.bad_request(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(spec["containers"]) != 1:
        chosen = " ".join(c["name"] for c in spec["containers"])
        raise errors.bad_request(f"a container name must be specified for pod {name}, choose one of: [{chosen}]")
    return names[0]


def _kubelet(store: Store, pod: Obj) -> tuple[str, int]:
    name = pod["spec"].get("nodeName")
    if not name:
        raise errors.bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")
    record = store.get("nodes", "", name)
    if record is None:
        raise errors.not_found("nodes", "", name)
    status = record.load().get("status") or {}
    addresses = {a["type"]: a["address"] for a in reversed(status.get("addresses") or [])}
    address = addresses.get("InternalIP") or addresses.get("Hostname")
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port", 10250)
    if not address:
        raise errors.internal(f'no preferred addresses found for node "{name}"; known addresses: []')
    return address, int(port)


async def open_log(store: Store, pod: Obj, query: dict[str, str]) -> AsyncIterator[bytes]:
    """Connect to the kubelet and return the log's bytes; ApiError if it can not be had."""
    import aiohttp  # 20 MiB that a server without log readers does not need

    container = _container(pod, query.get("container", ""))
    address, port = _kubelet(store, pod)
    meta = pod["metadata"]
    host = f"[{address}]" if ":" in address else address
    url = f"http://{host}:{port}/containerLogs/{meta['namespace']}/{meta['name']}/{container}"
    session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S))
    try:
        answer = await session.get(url, params={key: query[key] for key in _PASSED if key in query})
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        await session.close()
        raise ApiError(500, "InternalError", f'Get "{url}": {error or type(error).__name__}') from error
    if answer.status != 200:
        said = (await answer.text()).strip()
        await session.close()
        reason = "NotFound" if answer.status == 404 else "BadRequest" if answer.status == 400 else "InternalError"
        raise ApiError(answer.status, reason, said or f"the kubelet answered {answer.status}")
    return _copy(session, answer)


async def _copy(session: Any, answer: Any) -> AsyncIterator[bytes]:
    import aiohttp

    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    except aiohttp.ClientError:  # the kubelet went away in the middle: the log ends here
        return
    finally:
        answer.close()
        await session.close()
