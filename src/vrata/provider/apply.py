"""Carries out planned actions in the cloud, one call each."""

from collections.abc import Awaitable
from typing import assert_never

import structlog

from vrata.provider.cloud import Cloud, CloudError, Json
from vrata.provider.observe import BALANCING, LBAAS, NETWORK
from vrata.provider.plan import Action, AttachFloating, CreateFloating, DeleteFloating, Write

log = structlog.get_logger(__name__)


async def apply_action(cloud: Cloud, action: Action, floating_network_id: str | None) -> Json:
    """Do one action and return the answer; CloudError if the cloud refuses. Deleting what is gone already is done."""
    log.info("cloud", action=type(action).__name__, reason=action.reason)
    match action:
        case Write(method=method, path=path, body=body, params=params):
            call = cloud.request(method, BALANCING, LBAAS + path, params=dict(params), body=body)
            return await _unless_gone(method, call)
        case CreateFloating(port_id=port_id, address=address, description=description):
            if floating_network_id is None:
                raise CloudError(404, "no external network found; name one with --floating-network-id")
            floating = {"floating_network_id": floating_network_id, "port_id": port_id, "description": description}
            if address:
                floating["floating_ip_address"] = address
            return await cloud.request("POST", NETWORK, "/v2.0/floatingips", body={"floatingip": floating})
        case AttachFloating(id=id_, port_id=port_id):
            body = {"floatingip": {"port_id": port_id}}
            return await cloud.request("PUT", NETWORK, f"/v2.0/floatingips/{id_}", body=body)
        case DeleteFloating(id=id_):
            return await _unless_gone("DELETE", cloud.request("DELETE", NETWORK, f"/v2.0/floatingips/{id_}"))
        case _:
            assert_never(action)


async def _unless_gone(method: str, call: Awaitable[Json]) -> Json:
    try:
        return await call
    except CloudError as error:
        if method != "DELETE" or error.status != 404:
            raise
        return {}
