"""The service catalog and the version documents of identity; addresses follow the request (Keystone v3)."""

from typing import Any

SERVICES = (("identity", "keystone", "/identity"), ("network", "neutron", "/network"),
            ("load-balancer", "octavia", "/load-balancer"), ("key-manager", "barbican", "/key-manager"))  # fmt: skip
INTERFACES = ("public", "internal", "admin")


def catalog(base: str, region: str) -> list[dict[str, Any]]:
    """Every service at `base`, on all three interfaces."""
    return [
        {
            "id": f"vrata-{kind}",
            "type": kind,
            "name": name,
            "endpoints": [
                {
                    "id": f"vrata-{kind}-{interface}",
                    "interface": interface,
                    "region": region,
                    "region_id": region,
                    "url": base + path,
                }
                for interface in INTERFACES
            ],
        }
        for kind, name, path in SERVICES
    ]


def version(base: str) -> dict[str, Any]:
    """The version object of v3."""
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": f"{base}/identity/v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }
