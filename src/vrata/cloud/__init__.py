"""What a tenant sees: OpenStack-compatible APIs over one database."""
