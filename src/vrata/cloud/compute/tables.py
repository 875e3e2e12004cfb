"""Compute's tables: servers and flavors. A server's ports are Network's, by `device_id`."""

import sqlalchemy as sa

from vrata.cloud.schema import data, key, metadata, number, text, times

flavors = sa.Table(
    "server_flavors", metadata, key(), text("name"), number("vcpus", nullable=False), number("ram", nullable=False),
    number("disk", nullable=False, default=0), *times(), sa.UniqueConstraint("name"),
)  # fmt: skip
servers = sa.Table(
    "servers", metadata, key(), text("project_id", 64, index=True), text("user_id", 64), text("name"),
    text("status", 16, default="ACTIVE"), text("availability_zone"), data("flavor"), data("metadata"), *times(),
)  # fmt: skip
