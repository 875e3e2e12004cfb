"""The service catalog and the version documents of identity; addresses follow the request (Keystone v3)."""

from typing import Any

from vrata.cloud.settings import Settings

SERVICES = (("identity", "keystone", "/identity"), ("network", "neutron", "/network"),
            ("compute", "nova", "/compute/v2.1"),
            ("load-balancer", "octavia", "/load-balancer"), ("key-manager", "barbican", "/key-manager"))  # fmt: skip
INTERFACES = ("public", "internal", "admin")


def catalog(base: str, settings: Settings) -> list[dict[str, Any]]:
    """Every service at `base`, or where the settings say that others serve it, on all three interfaces."""
    elsewhere = dict(settings.endpoints)
    return [
        {
            "id": f"vrata-{kind}",
            "type": kind,
            "name": name,
            "endpoints": [
                {
                    "id": f"vrata-{kind}-{interface}",
                    "interface": interface,
                    "region": settings.region,
                    "region_id": settings.region,
                    "url": elsewhere.get(kind, base + path),
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
