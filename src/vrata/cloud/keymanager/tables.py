"""The key manager's tables: secrets with sealed payloads, containers that name secrets, who consumes a container."""

import sqlalchemy as sa

from vrata.cloud.schema import data, flag, key, metadata, number, reference, text, times

secrets = sa.Table(
    "secrets", metadata, key(), text("project_id", 64, index=True), text("creator_id", 64), text("name"),
    text("secret_type", 16), text("algorithm", nullable=True), number("bit_length"), text("mode", nullable=True),
    sa.Column("expires_at", sa.DateTime, nullable=True), text("content_type", 64, nullable=True),
    sa.Column("sealed", sa.LargeBinary, nullable=True), data("acl"),
    data("metadata"),  # of its users
    data("consumers"),  # list of service, resource_type, resource_id
    sa.Column("converted", sa.LargeBinary, nullable=True),  # a PKCS #12 file, or PEM, in HAProxy's form
    flag("deleted"),  # for its users; a listener still serves with it
    *times(),
)  # fmt: skip
containers = sa.Table(
    "secret_containers", metadata, key(), text("project_id", 64, index=True), text("creator_id", 64), text("name"),
    text("type", 16), data("secrets"),  # name -> secret id
    data("acl"), sa.Column("converted", sa.LargeBinary, nullable=True), flag("deleted"), *times(),
)  # fmt: skip
consumers = sa.Table(
    "secret_consumers", metadata, key(), reference("container_id", "secret_containers.id"), text("name"),
    text("url", 500), *times(), sa.UniqueConstraint("container_id", "name", "url"),
)  # fmt: skip
