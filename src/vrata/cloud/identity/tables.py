"""Identity's tables: domains, projects, users, roles, assignments, application credentials, tokens (Keystone v3)."""

import sqlalchemy as sa

from vrata.cloud.schema import data, flag, key, metadata, reference, text, times

domains = sa.Table(
    "domains", metadata, key(), text("name"), text("description", 1024), flag("enabled", default=True),
    data("extra"), sa.UniqueConstraint("name"),
)  # fmt: skip
projects = sa.Table(
    "projects", metadata, key(), reference("domain_id", "domains.id"), text("parent_id", 64), text("name"),
    text("description", 1024), flag("enabled", default=True), data("tags"), data("extra"),
    sa.UniqueConstraint("domain_id", "name"),
)  # fmt: skip
users = sa.Table(
    "users", metadata, key(), reference("domain_id", "domains.id"), text("name"), text("description", 1024),
    text("email", nullable=True), text("default_project_id", 64, nullable=True), flag("enabled", default=True),
    text("password_hash", nullable=True), data("extra"), sa.UniqueConstraint("domain_id", "name"),
)  # fmt: skip
roles = sa.Table(
    "roles",
    metadata,
    key(),
    text("name"),
    text("description", 1024),
    data("extra"),
    text("domain_id", 64, nullable=True),
    sa.UniqueConstraint("name"),
)
implied_roles = sa.Table(
    "implied_roles", metadata,
    sa.Column("prior_id", sa.String(64), sa.ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("implied_id", sa.String(64), sa.ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True),
)  # fmt: skip
assignments = sa.Table(
    "assignments", metadata,
    sa.Column("user_id", sa.String(64), sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("role_id", sa.String(64), sa.ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("target_kind", sa.String(16), primary_key=True),  # project, domain, system
    sa.Column("target_id", sa.String(64), primary_key=True),
)  # fmt: skip
application_credentials = sa.Table(
    "application_credentials", metadata, key(), reference("user_id", "users.id"),
    reference("project_id", "projects.id"), text("name"), text("description", 1024), text("secret_hash"),
    flag("unrestricted"), data("role_ids"), sa.Column("expires_at", sa.DateTime, nullable=True), *times(),
    sa.UniqueConstraint("user_id", "name"),
)  # fmt: skip
tokens = sa.Table(
    "tokens", metadata,
    sa.Column("digest", sa.String(64), primary_key=True),  # SHA-256: a stolen database gives no token away
    reference("user_id", "users.id"), text("project_id", 64, nullable=True), text("domain_id", 64, nullable=True),
    flag("system"), reference("application_credential_id", "application_credentials.id", nullable=True),
    data("methods"), data("audit_ids"),
    sa.Column("issued_at", sa.DateTime, nullable=False),
    sa.Column("expires_at", sa.DateTime, nullable=False, index=True),
)  # fmt: skip
