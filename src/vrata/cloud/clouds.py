"""Writes the clouds.yaml with which OpenStack clients find this cloud (openstacksdk, «Configuration»)."""

from pathlib import Path
from typing import Any

import yaml


def clouds(
    auth_url: str, passwords: dict[str, str], region: str = "RegionOne", prefix: str = "vrata"
) -> dict[str, Any]:
    """One entry per user: `<prefix>` for demo, `<prefix>-<user>` for others; each in the project of its name."""
    return {
        "clouds": {
            prefix if user == "demo" else f"{prefix}-{user}": {
                "auth": {
                    "auth_url": auth_url, "username": user, "password": password, "project_name": user,
                    "user_domain_id": "default", "project_domain_id": "default",
                },
                "region_name": region,
                "identity_api_version": "3",
                "interface": "public",
            }
            for user, password in passwords.items()
        }
    }  # fmt: skip


def write_clouds_yaml(
    path: Path,
    base_url: str,
    *,
    demo_password: str,
    admin_password: str,
    region: str = "RegionOne",
    prefix: str = "vrata",
) -> None:
    """Write the file, readable by its owner only; an interruption leaves the old one."""
    passwords = {"demo": demo_password, "admin": admin_password}
    found = clouds(f"{base_url.rstrip('/')}/identity/v3", passwords, region=region, prefix=prefix)
    text = yaml.safe_dump(found, sort_keys=False)
    beside = path.with_name(path.name + ".new")
    beside.touch(mode=0o600)
    beside.write_text(text)
    beside.replace(path)
