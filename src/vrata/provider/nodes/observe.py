"""Reads servers: all of a project in one list, or one by its id (Nova API reference, microversion 2.47)."""

from vrata.provider.call import COMPUTE, NOVA, Json
from vrata.provider.cloud import Cloud, CloudError
from vrata.provider.nodes.model import Address, Server

GONE = 404


async def observe_servers(cloud: Cloud) -> list[Server]:
    """Every server of the project."""
    return [parse_server(row) for row in await cloud.find(COMPUTE, f"{NOVA}/servers/detail", "servers")]


async def is_gone(cloud: Cloud, server_id: str) -> bool:
    """Whether the cloud says that it has no such server; any other trouble is raised."""
    try:
        await cloud.get(COMPUTE, f"{NOVA}/servers/{server_id}")
    except CloudError as error:
        if error.status != GONE:
            raise
        return True
    return False


def parse_server(row: Json) -> Server:
    """One of the API's rows."""
    addresses = tuple(
        Address(network, one["addr"], floating=one.get("OS-EXT-IPS:type") == "floating")
        for network, some in row["addresses"].items()
        for one in some
    )
    return Server(
        id=row["id"],
        name=row["name"],
        status=row["status"],
        flavor=row["flavor"].get("original_name", ""),
        zone=row.get("OS-EXT-AZ:availability_zone") or "",
        access=tuple(row[name] for name in ("accessIPv4", "accessIPv6") if row.get(name)),
        addresses=addresses,
        metadata=row.get("metadata") or {},
    )
